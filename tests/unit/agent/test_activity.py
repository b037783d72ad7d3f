from mizzen.agent.envoy import Activity, read_activity

STATS = """\
http.admin.downstream_cx_active: 1
http.admin.downstream_rq_active: 1
http.health.downstream_cx_active: 1
http.inbound_0.0.0.0_9080.downstream_cx_active: 2
http.inbound_0.0.0.0_9080.downstream_rq_active: 1
http.inbound_0.0.0.0_9080.downstream_rq_total: 70
http.outbound_0.0.0.0_9080.downstream_cx_active: 1
http.outbound_0.0.0.0_9080.downstream_rq_total: 5
listener.0.0.0.0_15006.downstream_cx_active: 2
listener.0.0.0.0_15006.worker_0.downstream_cx_active: 2
listener.0.0.0.0_15021.downstream_cx_active: 1
listener.0.0.0.0_15090.downstream_cx_active: 1
listener.0.0.0.0_9080.downstream_cx_active: 1
listener.admin.downstream_cx_active: 1
listener.10.96.0.9_9000.downstream_cx_active: 1
"""


def test_only_the_apps_traffic_counts():
    assert read_activity(STATS) == Activity(connections=4, http_connections=3, requests=1, requests_ever=75)


def test_a_request_or_a_raw_connection_is_work_and_an_idle_http_connection_is_not():
    assert not Activity(connections=1, http_connections=1, requests=1).all_idle
    assert not Activity(connections=2, http_connections=1).all_idle
    assert Activity(connections=2, http_connections=2).all_idle
    assert Activity().all_idle
