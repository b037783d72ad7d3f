"""An ADS machine playing Envoy: whatever happens in whatever order, the proxy ends up with what was published."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mizzen.ads.session import DeltaSession
from mizzen.ads.store import Store
from mizzen.ads.target import Layers
from mizzen.ads.wire import DeltaRequest
from mizzen.envoy.messages import DeltaDiscoveryResponse
from mizzen.envoy.resources import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, Resource

TYPES = (CLUSTER, ENDPOINTS, LISTENER, ROUTES, EXTENSION)
BY_NAME = (ENDPOINTS, ROUTES, EXTENSION)
NAMES = ("a", "b", "c.d", "c.d.e")
FRONT = ("b", "c.d")
CONTENTS = st.sampled_from(["one", "two", "three", "bad-one", "bad-two"])
WORLD = st.fixed_dictionaries({url: st.dictionaries(st.sampled_from(NAMES), CONTENTS) for url in TYPES})


class Proxy(RuleBasedStateMachine):
    """Refuses every resource whose body begins with `bad`, the way Envoy does: named and partial, or all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.refused: dict = {}
        self.session = DeltaSession(self.store, self.refused)
        self.target: dict = {}
        self.held: dict = {url: {} for url in TYPES}
        self.subscribed: dict = {url: set() for url in BY_NAME}
        self.inbox: list = []
        self.refusals_seen: set = set()
        self.opened: set = set()
        """Types that this stream has had a request of."""
        self.fresh: Counter = Counter()
        self.cold: set = set()
        """Clusters that wait for endpoints. Envoy says nothing of clusters meanwhile, be it for ever."""
        self.unsaid: list = []
        self.waits: set = set()
        """What was asked for by name and not answered."""

    @initialize(world=WORLD, apart=st.booleans(), harmless=st.booleans())
    def connect(self, world, apart, harmless) -> None:
        """Endpoints may have a layer for themselves, as those of istiod have."""
        self.apart, self.harmless = apart, harmless
        self.publish(world)
        self.subscribe_all_at_once()

    def subscribe_all_at_once(self) -> None:
        for url in (CLUSTER, LISTENER):
            self.say(DeltaRequest(url, initial_versions=self.versions(url)))

    def say(self, request: DeltaRequest) -> None:
        if request.type_url == CLUSTER and self.cold:
            self.unsaid.append(request)
        else:
            self.request(request)

    def say_what_waited(self) -> None:
        if not self.cold:
            said, self.unsaid = self.unsaid, []
            for request in said:
                self.say(request)

    def request(self, request: DeltaRequest) -> None:
        """Whose first request of a type says that it holds nothing may be a new process: that has refused nothing."""
        if request.type_url not in self.opened and not request.initial_versions:
            self.refusals_seen = {one for one in self.refusals_seen if one[0] != request.type_url}
        self.opened.add(request.type_url)
        self.take(self.session.on_request(request))

    def versions(self, url: str) -> dict[str, str]:
        return {name: version for name, (version, _) in self.held[url].items()}

    def take(self, responses) -> None:
        self.inbox += [DeltaDiscoveryResponse.FromString(body) for body in responses]

    @rule(world=WORLD)
    def publish(self, world) -> None:
        target = {url: self.made(named) for url, named in world.items()}
        self.aim_at(target, self.layered(target))

    def made(self, named) -> dict[str, Resource]:
        contents = {name: content.removeprefix("bad-") if self.harmless else content for name, content in named.items()}
        return {name: Resource.of(name, content.encode()) for name, content in contents.items()}

    @rule(named=st.dictionaries(st.sampled_from(NAMES), CONTENTS), at_rest=st.booleans())
    def endpoints_move(self, named, at_rest) -> None:
        """And nothing else does."""
        if at_rest:
            self.settle()
        moved = self.made(named)
        target = {**self.target, ENDPOINTS: moved}
        own = self.store.intern({ENDPOINTS: moved})
        self.aim_at(target, (*self.layers[:-1], own) if self.apart else self.layered(target))

    def aim_at(self, target, layers: Layers) -> None:
        self.target, self.layers = self.store.intern(target), layers
        self.refusals_seen = {one for one in self.refusals_seen if self.is_target(*one)}
        self.take(self.session.publish(self.layers))
        self.store.sweep()

    def layered(self, target) -> Layers:
        """The target in two layers, the second of which has something else of all that the first has, too."""
        if self.apart:
            shared = self.in_two({**target, ENDPOINTS: {}})
            return *shared, self.store.intern({ENDPOINTS: target[ENDPOINTS]})
        return self.in_two(target)

    def in_two(self, target) -> Layers:
        front = {url: {name: one for name, one in named.items() if name in FRONT} for url, named in target.items()}
        back = {
            url: {name: Resource.of(name, b"hidden") if name in FRONT else one for name, one in named.items()}
            for url, named in target.items()
        }
        return self.store.intern(front), self.store.intern(back)

    @rule(url=st.sampled_from(BY_NAME), name=st.sampled_from(NAMES))
    def subscribe(self, url: str, name: str) -> None:
        self.subscribed[url].add(name)
        self.held[url].pop(name, None)
        self.waits.add((url, name))
        self.fresh[url, name] += 1 + self.under_way(url, name)
        self.request(DeltaRequest(url, subscribe=(name,)))

    def under_way(self, url: str, name: str) -> int:
        """Responses with the name that are no answer to a subscription that comes now."""
        sent = (response for response in self.inbox if response.type_url == url)
        return sum(1 for response in sent if any(one.name == name for one in response.resources))

    @rule(url=st.sampled_from(BY_NAME), name=st.sampled_from(NAMES))
    def unsubscribe(self, url: str, name: str) -> None:
        if name in self.subscribed[url]:
            self.subscribed[url].discard(name)
            self.held[url].pop(name, None)
            self.request(DeltaRequest(url, unsubscribe=(name,)))
            self.hear_of(url, name)
            self.say_what_waited()

    @precondition(lambda self: self.inbox)
    @rule()
    def answer(self) -> None:
        self.apply(self.inbox.pop(0))

    def apply(self, response) -> None:
        url = response.type_url
        bad = [one.name for one in response.resources if one.resource.value.startswith(b"bad")]
        partial = url in (CLUSTER, LISTENER)
        asked = {one.name for one in response.resources if self.fresh[url, one.name] and url != ENDPOINTS}
        for one in response.resources:
            assert one.version, "resources carry versions"
            if one.name in bad:
                again = (url, one.name, one.version) in self.refusals_seen
                assert not again or one.name in asked, "refused, yet resent"
                self.expect_endpoints(url, one.name)
                self.hear_of(url, one.name)
            elif (partial or not bad) and self.wants(url, one.name):
                known = self.held[url].get(one.name, (None, None))[0]
                assert known != one.version or self.fresh[url, one.name] > 0, f"{one.name} was sent again unchanged"
                self.held[url][one.name] = (one.version, one.resource.value)
                self.warm(url, one.name)
        for name in response.removed_resources:
            self.held[url].pop(name, None)
            self.hear_of(url, name)
        for one in response.resources if partial or not bad or len(response.resources) == 1 else ():
            self.fresh[url, one.name] = max(0, self.fresh[url, one.name] - 1)
        if len(response.resources) == 1:
            seen = {(url, one.name, one.version) for one in response.resources if one.name in bad}
            self.refusals_seen |= {one for one in seen if self.is_target(*one)}
        error = None
        if bad and partial:
            error = "Error adding/updating cluster(s) " + ", ".join(f"{name}: it is bad" for name in bad)
        elif bad:
            error = "it is bad"
        self.say(DeltaRequest(url, nonce=response.nonce, error=error))
        self.say_what_waited()

    def warm(self, url: str, name: str) -> None:
        """A cluster that changes waits for endpoints anew, without asking for those that are subscribed to."""
        if url == CLUSTER and name in self.subscribed[ENDPOINTS]:
            self.cold.add(name)
        self.expect_endpoints(url, name)
        self.hear_of(url, name)

    def hear_of(self, url: str, name: str) -> None:
        """An answer, whatever it says, ends the wait."""
        self.waits.discard((url, name))
        if url == ENDPOINTS:
            self.cold.discard(name)

    def expect_endpoints(self, url: str, name: str) -> None:
        """They come with the cluster, before anyone can know that it is refused."""
        if url == CLUSTER and name in self.subscribed[ENDPOINTS]:
            self.fresh[ENDPOINTS, name] += 1

    def wants(self, url: str, name: str) -> bool:
        return url not in BY_NAME or name in self.subscribed[url]

    def is_target(self, url: str, name: str, version: str) -> bool:
        """A refused version may be tried again once something else was wanted in between."""
        resource = self.target[url].get(name)
        return resource is not None and resource.version == version

    @rule()
    def reconnect(self) -> None:
        """The stream breaks; what was under way is lost. The proxy says what it holds."""
        for one in (self.inbox, self.opened, self.fresh, self.unsaid):
            one.clear()
        self.session = DeltaSession(self.store, self.refused)
        self.take(self.session.publish(self.layers))
        self.subscribe_all_at_once()
        for url in BY_NAME:
            if names := tuple(sorted(self.subscribed[url])):
                waiting = url == ENDPOINTS and self.cold
                self.fresh.update((url, name) for name in names if waiting or name not in self.held[url])
                self.request(DeltaRequest(url, subscribe=names, initial_versions=self.versions(url)))

    @rule()
    def settle(self) -> None:
        for _ in range(200):
            if not self.inbox:
                break
            self.apply(self.inbox.pop(0))
        assert not self.inbox, "it never comes to rest"
        assert self.session.settled
        assert not self.cold, "clusters that never warm"
        assert all(url == EXTENSION and name not in self.target[url] for url, name in self.waits), "no answer"
        for url in TYPES:
            for name, resource in self.target[url].items():
                if self.wants(url, name) and not resource.body.startswith(b"bad"):
                    assert self.held[url].get(name) == (resource.version, resource.body), (url, name)
            for name in self.held[url]:
                assert name in self.target[url], f"{url} {name} should have been removed"

    @precondition(lambda self: not self.inbox and self.session.settled)
    @rule()
    def reconnect_at_rest(self) -> None:
        """Nothing that did not change is sent again, and nothing that was refused."""
        if not (self.held[CLUSTER] and self.held[LISTENER]):
            return
        self.reconnect()
        again = [
            one.name
            for response in self.inbox
            for one in response.resources
            if self.held[response.type_url].get(one.name, ("",))[0] == one.version
        ]
        assert again == []

    @invariant()
    def counts_what_is_held(self) -> None:
        for url, state in self.session.types.items():
            assert state.held == len(self.session.held(url))

    @invariant()
    def one_extension_per_response(self) -> None:
        for response in self.inbox:
            assert response.type_url != EXTENSION or len(response.resources) <= 1


Proxy.TestCase.settings = settings(stateful_step_count=25)
TestProxy = Proxy.TestCase
