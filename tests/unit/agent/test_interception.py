import pytest

from mizzen.agent.interception import CaptureRefused, interception, read_arguments

INJECTED = [
    *("-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT", "-i", "*", "-x", "", "-b", "*"),
    *("-d", "15090,15021,15020", "--log_output_level=default:info"),
]


def table(*more, by_mark=False, ipv6=False):
    return interception(read_arguments([*INJECTED, *more], by_mark=by_mark), ipv6=ipv6)


def rules(name, *more, **options):
    (chain,) = (chain for chain in table(*more, **options).chains if chain.name == name)
    return [str(rule) for rule in chain.rules]


def test_istios_arguments_give_istios_rules_in_istios_order():
    assert str(table()).splitlines() == [
        "table inet mizzen-capture {",
        "\tchain prerouting {",
        "\t\ttype nat hook prerouting priority -100; policy accept;",
        "\t\tmeta l4proto 6 jump ISTIO_INBOUND",
        "\t}",
        "\tchain output {",
        "\t\ttype nat hook output priority -100; policy accept;",
        "\t\tmeta nfproto 10 return",
        "\t\tmeta l4proto 6 jump ISTIO_OUTPUT",
        "\t}",
        "\tchain ISTIO_INBOUND {",
        "\t\ttcp dport 15008 return",
        "\t\ttcp dport 15090 return",
        "\t\ttcp dport 15021 return",
        "\t\ttcp dport 15020 return",
        "\t\tjump ISTIO_IN_REDIRECT",
        "\t}",
        "\tchain ISTIO_OUTPUT {",
        '\t\toifname "lo" ip saddr 127.0.0.6 return',
        '\t\toifname "lo" ip daddr != 127.0.0.1 tcp dport != 15008 meta skuid 1337 jump ISTIO_IN_REDIRECT',
        '\t\toifname "lo" meta skuid != 1337 return',
        "\t\tmeta skuid 1337 return",
        '\t\toifname "lo" ip daddr != 127.0.0.1 tcp dport != 15008 meta skgid 1337 jump ISTIO_IN_REDIRECT',
        '\t\toifname "lo" meta skgid != 1337 return',
        "\t\tmeta skgid 1337 return",
        "\t\tip daddr 127.0.0.1 return",
        "\t\tjump ISTIO_REDIRECT",
        "\t}",
        "\tchain ISTIO_IN_REDIRECT {",
        "\t\tmeta l4proto 6 redirect to :15006",
        "\t}",
        "\tchain ISTIO_REDIRECT {",
        "\t\tmeta l4proto 6 redirect to :15001",
        "\t}",
        "}",
    ]


def test_included_networks_are_captured_and_nothing_else():
    assert rules("ISTIO_OUTPUT", "-i", "10.96.0.0/16,10.0.0.1")[-2:] == [
        "ip daddr 10.96.0.0/16 jump ISTIO_REDIRECT",
        "ip daddr 10.0.0.1/32 jump ISTIO_REDIRECT",
    ]


def test_without_networks_nothing_is_captured_on_the_way_out():
    assert rules("ISTIO_OUTPUT", "-i", "")[-1] == "ip daddr 127.0.0.1 return"


def test_excluded_networks_come_before_included_ports():
    assert rules("ISTIO_OUTPUT", "-i", "", "-x", "10.1.0.0/16", "-q", "8443")[-2:] == [
        "ip daddr 10.1.0.0/16 return",
        "tcp dport 8443 jump ISTIO_REDIRECT",
    ]


def test_excluded_outbound_ports_come_first():
    assert rules("ISTIO_OUTPUT", "-o", "3306,27017")[:2] == ["tcp dport 3306 return", "tcp dport 27017 return"]


def test_listed_inbound_ports_are_captured_and_no_others():
    assert rules("ISTIO_INBOUND", "-b", "8080,8443") == [
        "tcp dport 15008 return",
        "tcp dport 8080 jump ISTIO_IN_REDIRECT",
        "tcp dport 8443 jump ISTIO_IN_REDIRECT",
    ]


def test_no_inbound_ports_means_no_inbound_capture():
    assert rules("ISTIO_INBOUND", "-b", "") == ["tcp dport 15008 return"]


def test_excluded_interfaces_are_passed_by_both_ways():
    assert rules("prerouting", "-c", "net1")[0] == 'iifname "net1" return'
    assert rules("output", "-c", "net1")[1] == 'oifname "net1" return'


def test_by_mark_no_owner_is_asked_for():
    assert rules("ISTIO_OUTPUT", by_mark=True)[1:4] == [
        'oifname "lo" ip daddr != 127.0.0.1 tcp dport != 15008 meta mark 1337 jump ISTIO_IN_REDIRECT',
        'oifname "lo" meta mark != 1337 return',
        "meta mark 1337 return",
    ]
    assert "sk" not in str(table(by_mark=True))


def test_ipv6_is_captured_where_the_pod_has_it():
    text = str(table(ipv6=True))
    assert "meta nfproto 10 return" not in text
    assert 'oifname "lo" ip6 saddr ::6 return' in text
    assert "ip6 daddr ::1 return" in text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-m", "TPROXY"], "TPROXY is not served"),
        (["-k", "tap0"], "-k"),
        (["-e", "15009"], "tunnel port"),
        (["--redirect-dns"], "redirect-dns"),
        (["--run-validation"], "run-validation"),
        (["--wat"], "unrecognized arguments: --wat"),
        (["-i", "10.0.0.0/33"], "10.0.0.0/33"),
        (["-u", "root"], "root"),
    ],
)
def test_what_is_not_served_is_refused_by_name(arguments, reason):
    with pytest.raises(CaptureRefused, match=reason):
        read_arguments([*INJECTED, *arguments])
