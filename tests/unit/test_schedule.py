"""The schedule against a model of listings, in virtual time: no run is ever lost, whatever order, tokens or refusals.

The simulation does what the watcher does, without tasks or requests. What it asserts holds for any price, any
estimate of lengths and any way of following pages.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Iterator

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepnote_async.settings import PollPolicy
from deepnote_async.waiting.places import Item, Look, Node, Page
from deepnote_async.waiting.schedule import Schedule

POLICY = PollPolicy(initial=1.0, maximum=20.0, jitter=0.2)
PAGE = 4


@attrs.define(eq=False)
class Remote:
    """A run at the service."""

    run_id: str
    notebook_id: str
    created: float
    ends: float
    listed: bool = True


class Refused(Exception):  # noqa: N818 - a signal of the model's
    """The service has no such page."""


@attrs.define(kw_only=True)
class Habits:
    """How the service lists, and how well it answers."""

    order: str = "newest"
    tokens: str = "offset"
    token_life: float = math.inf
    refuses_lists: float = 0.0
    fails: float = 0.0
    throttles: float = 0.0
    latency: float = 0.2


class Service:
    """Runs of some notebooks, listed in pages."""

    def __init__(self, habits: Habits, rng: random.Random) -> None:
        self.habits = habits
        self.rng = rng
        self.runs: dict[str, Remote] = {}

    def listing(self, notebook_id: str) -> list[Remote]:
        runs = [run for run in self.runs.values() if run.notebook_id == notebook_id and run.listed]
        if self.habits.order == "random":
            self.rng.shuffle(runs)
            return runs
        return sorted(runs, key=lambda run: (run.created, run.run_id), reverse=self.habits.order == "newest")

    def page(self, notebook_id: str, token: str | None, now: float) -> tuple[list[Remote], str | None]:
        if self.rng.random() < self.habits.refuses_lists:
            raise Refused
        runs = self.listing(notebook_id)
        start = 0
        if token is not None:
            place, issued = token.split("@")
            if now - float(issued) > self.habits.token_life:
                raise Refused
            ids = [run.run_id for run in runs]
            if self.habits.tokens == "cursor" and place not in ids:
                raise Refused
            start = int(place) if self.habits.tokens == "offset" else ids.index(place) + 1
        shown = runs[start : start + PAGE]
        if start + PAGE >= len(runs):
            return shown, None
        place = str(start + PAGE) if self.habits.tokens == "offset" else shown[-1].run_id
        # A token that says when it was issued is a new one each time; one that does not stays the same.
        return shown, f"{place}@{now if self.habits.token_life < math.inf else 0}"


class Simulation:
    """Watches runs as the watcher does: looks, answers a moment later, and what follows from them."""

    def __init__(self, habits: Habits, seed: int, policy: PollPolicy = POLICY, *, gap: float = 0.0) -> None:
        self.rng = random.Random(seed)
        self.service = Service(habits, self.rng)
        self.policy = policy
        self.schedule = Schedule(policy, random.Random(seed + 1))
        self.gap = gap
        self.now = 1000.0
        self.live: dict[str, Item] = {}
        self.seen: dict[str, float] = {}
        self.longest = 0.0
        self.gone: set[Item] = set()
        self.ended: list[str] = []
        self.requests = 0
        self._wire: list[tuple[float, int, Look]] = []
        self._out: set[Node] = set()
        self._ids = itertools.count()
        self._next_token = 0.0

    # What happens outside.

    def start(self, notebook_id: str, length: float, *, watched: str | None = "started", listed: bool = True) -> str:
        run = Remote(f"r{next(self._ids)}", notebook_id, self.now, self.now + length, listed)
        self.service.runs[run.run_id] = run
        if watched is not None:
            self.watch(run, watched)
        return run.run_id

    def watch(self, run: Remote, known: str) -> None:
        notebook = self.schedule.notebook(run.notebook_id) if known in {"started", "notebook"} else None
        born = run.created if known in {"started", "age"} else None
        item = Item(run.run_id, notebook, born, self.now)
        self.live[run.run_id] = item
        self.seen[run.run_id] = self.now
        self.schedule.add(item, self.now)

    def forget(self, run_id: str) -> None:
        item = self.live.pop(run_id)
        self.schedule.remove(item)
        self.gone.add(item)

    # Time.

    def run(self, seconds: float, *, checked: bool = True) -> None:
        """Let time pass; with ``checked``, look after every step that nothing is lost."""
        end = self.now + seconds
        while True:
            due = self.schedule.next_due()
            look_at = math.inf if due is None else max(due, self.now, self._next_token)
            answer_at = self._wire[0][0] if self._wire else math.inf
            moment = min(look_at, answer_at)
            if moment > end:
                break
            self.now = moment
            if answer_at <= look_at:
                look = heapq.heappop(self._wire)[2]
                self._answer(look)
                self.schedule.over(look)
            else:
                self._look()
            if checked:
                self.check()
        self.now = end
        for seen in (self.seen[run_id] for run_id in self.live):
            self.longest = max(self.longest, self.now - seen)

    def _look(self) -> None:
        look = self.schedule.choose(self.now)
        if look is None:
            # What was due a moment ago is no longer; it may not stay due for ever.
            due = self.schedule.next_due()
            assert due is None or due > self.now
            return
        node: Node | None = look.item if look.item is not None else look.page
        assert node is not None
        assert node not in self.gone, "a run that was removed is looked at"
        if not look.scouting:
            assert node not in self._out, "it is looked at twice at a time"
            self._out.add(node)
        self.requests += 1
        self._next_token = self.now + self.gap
        answered = self.now + self.service.habits.latency * (0.5 + self.rng.random())
        heapq.heappush(self._wire, (answered, self.requests, look))

    def _answer(self, look: Look) -> None:
        self._out.discard(look.item if look.item is not None else look.page)  # type: ignore[arg-type]
        chance = self.rng.random()
        habits = self.service.habits
        if look.item is not None and self.live.get(look.item.run_id) is not look.item:
            return
        if chance < habits.throttles:
            self.schedule.throttled(look, self.now)
        elif chance < habits.throttles + habits.fails:
            self.schedule.failed(look, self.now)
        elif look.item is not None:
            self._read_alone(look, look.item)
        else:
            self._read_page(look)

    def _sighted(self, run_id: str) -> None:
        self.longest = max(self.longest, self.now - self.seen[run_id])
        self.seen[run_id] = self.now

    def _read_alone(self, look: Look, item: Item) -> None:
        run = self.service.runs[item.run_id]
        self._sighted(item.run_id)
        if item.notebook is None:
            item.notebook = self.schedule.notebook(run.notebook_id)
        if run.ends > self.now:
            self.schedule.met_alone(look, run.created, self.now)
        else:
            self._over(item, run)

    def _read_page(self, look: Look) -> None:
        assert look.notebook is not None
        try:
            shown, token = self.service.page(look.notebook.id, look.token, self.now)
        except Refused:
            self.schedule.page_refused(look, self.now)
            return
        here = self.schedule.page_of(look)
        for run in shown:
            item = self.live.get(run.run_id)
            if item is None:
                if run.ends <= self.now:
                    here.notebook.foreign_ended(run.run_id, run.ends - run.created)
                continue
            self._sighted(run.run_id)
            if item.notebook is None or item.place is here.notebook.frontier:
                look.found += 1
                item.notebook = here.notebook
            if run.ends > self.now:
                self.schedule.met(item, here, run.created, self.now)
            else:
                self._over(item, run)
        self.schedule.page_read(look, here, token, self.now)

    def _over(self, item: Item, run: Remote) -> None:
        self.schedule.ended(item, run.ends - run.created)
        self.forget(item.run_id)
        self.ended.append(item.run_id)

    # What must hold at every moment.

    def check(self) -> None:
        waiting = {seq for _, seq, _ in self.schedule._heap}
        for item in self.live.values():
            assert self._is_reachable(item, waiting), f"{item.run_id} is lost"
        for item in self.gone:
            assert item.place is None
            assert item.seq not in waiting

    def _is_reachable(self, item: Item, waiting: set[int]) -> bool:
        if item in self.schedule._strays or item in self._out or item.seq in waiting:
            return True
        page = item.place
        return page is not None and page.members.get(item.run_id) is item and (page in self._out or page.seq in waiting)

    def pages(self) -> int:
        """Pages of the longest listing."""
        runs = list(self.service.runs.values())
        longest = max((sum(run.notebook_id == one.notebook_id for run in runs) for one in runs), default=0)
        return longest // PAGE + 1


def rounds(simulation: Simulation) -> float:
    """The longest a live run may go unseen where every look is answered: ``maximum``, jitter, and one round."""
    policy = simulation.policy
    one_round = 2 * (simulation.pages() + 4) * 1.5 * simulation.service.habits.latency
    return policy.maximum * (1 + policy.jitter) + one_round + policy.initial


orders = st.sampled_from(["newest", "oldest", "random"])
token_kinds = st.sampled_from(["offset", "cursor"])
lives = st.sampled_from([math.inf, 30.0, 2.0, 0.0])
seeds = st.integers(0, 10**6)
kinds = st.sampled_from(["started", "started", "notebook", "age", "bare", None])


def populate(simulation: Simulation, plan: list[tuple[int, str | None, bool, float]]) -> Iterator[None]:
    """Start what is planned, a few at a time."""
    for notebook, watched, listed, length in plan:
        simulation.start(f"nb{notebook}", length, watched=watched, listed=listed)
        if simulation.rng.random() < 0.4:
            yield


plans = st.lists(
    st.tuples(
        st.integers(0, 2),
        kinds,
        st.sampled_from([True, True, True, True, False]),
        st.sampled_from([0.5, 5.0, 40.0, 300.0, 1e9, 1e9]),
    ),
    min_size=1,
    max_size=30,
)


@given(orders, token_kinds, lives, seeds, plans)
def test_every_run_is_seen_again_within_the_longest_interval_and_a_round(
    order: str, tokens: str, life: float, seed: int, plan: list[tuple[int, str | None, bool, float]]
) -> None:
    simulation = Simulation(Habits(order=order, tokens=tokens, token_life=life), seed)
    for _ in populate(simulation, plan):
        simulation.run(simulation.rng.random() * 10)
    simulation.run(150.0)
    assert simulation.longest <= rounds(simulation)
    assert set(simulation.live) == {
        run_id
        for run_id, run in simulation.service.runs.items()
        if run_id in simulation.live and run.ends > simulation.now - rounds(simulation)
    }


@given(
    st.builds(
        Habits,
        order=orders,
        tokens=token_kinds,
        token_life=lives,
        refuses_lists=st.sampled_from([0.0, 0.1, 1.0]),
        fails=st.sampled_from([0.0, 0.2, 0.5]),
        throttles=st.sampled_from([0.0, 0.2]),
        latency=st.sampled_from([0.01, 0.2, 3.0]),
    ),
    st.sampled_from([0.0, 0.05, 0.5]),
    seeds,
    plans,
)
def test_no_run_is_lost_whatever_is_refused_or_broken(
    habits: Habits, gap: float, seed: int, plan: list[tuple[int, str | None, bool, float]]
) -> None:
    simulation = Simulation(habits, seed, gap=gap)
    for _ in populate(simulation, plan):
        simulation.run(simulation.rng.random() * 10)
        if simulation.live and simulation.rng.random() < 0.2:
            simulation.forget(simulation.rng.choice(sorted(simulation.live)))
            simulation.check()
        if simulation.live and simulation.rng.random() < 0.1:
            some = simulation.rng.sample(sorted(simulation.live), k=(len(simulation.live) + 1) // 2)
            simulation.schedule.hasten([simulation.live[run_id] for run_id in some], simulation.now)
            simulation.check()
    simulation.run(60.0)
    # It gets over it: once all is answered, every run is seen again.
    habits.fails = habits.throttles = 0.0
    simulation.run(3 * rounds(simulation))
    began = simulation.now
    simulation.run(rounds(simulation) + len(simulation.live) * gap * 3)
    assert all(simulation.seen[run_id] >= began for run_id in simulation.live)


@pytest.mark.parametrize("order", ["newest", "oldest", "random"])
@pytest.mark.parametrize("tokens", ["offset", "cursor"])
def test_all_ends_are_found(order: str, tokens: str) -> None:
    simulation = Simulation(Habits(order=order, tokens=tokens), seed=3)
    lengths = random.Random(3)
    for _ in range(40):
        simulation.start("nb", 20.0 + 10.0 * lengths.random())
        simulation.start("nb", 20.0 + 10.0 * lengths.random(), watched=None)
        simulation.run(0.5)
    simulation.run(200.0)
    assert len(simulation.ended) == 40
    assert not simulation.live
    assert simulation.schedule.next_due() in {None, math.inf}


def test_pages_tell_of_many_at_once() -> None:
    simulation = Simulation(Habits(), seed=4)
    for _ in range(100):
        simulation.start("nb", 1e9)
    simulation.run(200.0, checked=False)
    simulation.requests = 0
    simulation.run(200.0, checked=False)
    assert simulation.requests <= 100 * 200 / POLICY.initial / PAGE
    assert simulation.requests < 100 * 200 / POLICY.maximum * 2


def test_nothing_watched_is_nothing_due() -> None:
    schedule = Schedule(POLICY)
    assert schedule.next_due() is None
    assert schedule.choose(1e9) is None


@pytest.mark.parametrize("known", ["started", "notebook", "age", "bare"])
def test_a_run_removed_before_its_first_look_is_never_looked_at(known: str) -> None:
    simulation = Simulation(Habits(), seed=1)
    run_id = simulation.start("nb", 1e9, watched=known)
    simulation.forget(run_id)
    simulation.run(100.0)
    assert simulation.requests == 0
    assert simulation.schedule.next_due() is None


@pytest.mark.parametrize("known", ["notebook", "bare"])
def test_a_run_of_unknown_age_is_read_at_once(known: str) -> None:
    simulation = Simulation(Habits(), seed=1)
    simulation.start("nb", 1e9, watched=known)
    due = simulation.schedule.next_due()
    assert due is not None
    assert due <= simulation.now


def test_a_lone_run_is_looked_at_between_initial_and_maximum() -> None:
    simulation = Simulation(Habits(latency=0.0), seed=2)
    simulation.start("nb", 1e9)
    looks: list[float] = []
    for _ in range(3000):
        before = simulation.requests
        simulation.run(0.1)
        looks += [simulation.now] * (simulation.requests - before)
    spans = [later - earlier for earlier, later in itertools.pairwise(looks)]
    assert min(spans) >= POLICY.initial * (1 - POLICY.jitter / 2) - 0.2
    assert max(spans) <= POLICY.maximum * (1 + POLICY.jitter / 2) + 0.2


def test_a_look_before_its_time_is_none() -> None:
    simulation = Simulation(Habits(), seed=2)
    simulation.start("nb", 1e9)
    due = simulation.schedule.next_due()
    assert due is not None
    assert due > simulation.now
    assert simulation.schedule.choose(simulation.now) is None
    assert simulation.schedule.choose(due) is not None
    assert simulation.schedule.choose(due) is None


def test_a_throttled_look_stays_as_urgent_as_it_was() -> None:
    schedule = Schedule(POLICY, random.Random(1))
    schedule.add(Item("r", None, None, 5.0), 5.0)
    look = schedule.choose(5.0)
    assert look is not None
    assert schedule.next_due() is None
    schedule.throttled(look, 6.0)
    assert schedule.next_due() == 6.0


def test_a_failed_look_is_made_again_later_and_later() -> None:
    schedule = Schedule(POLICY, random.Random(1))
    schedule.add(Item("r", None, None, 5.0), 5.0)
    now, waits = 5.0, list[float]()
    for _ in range(12):
        look = schedule.choose(now)
        assert look is not None
        schedule.failed(look, now)
        due = schedule.next_due()
        assert due is not None
        waits.append(due - now)
        now = due
    assert 0.5 <= waits[0] <= 1.5
    assert waits[3] > waits[0]
    assert all(wait <= POLICY.maximum * (1 + POLICY.jitter) for wait in waits)
    assert waits[-1] >= POLICY.maximum * (1 - POLICY.jitter)


def test_hastened_runs_are_due_now() -> None:
    simulation = Simulation(Habits(), seed=6)
    for _ in range(9):
        simulation.start("nb", 1e9)
    simulation.start("other", 1e9, listed=False)
    simulation.run(100.0)
    began = simulation.now
    simulation.schedule.hasten(list(simulation.live.values()), began)
    simulation.run(3.0)
    assert all(seen >= began for seen in simulation.seen.values())


def test_a_run_to_be_read_at_a_time_is_read_then() -> None:
    schedule = Schedule(POLICY, random.Random(1))
    item = Item("r", schedule.notebook("nb"), 0.0, 0.0)
    schedule.add(item, 0.0)
    schedule.ended(item, 3.0)
    schedule.remove(item)
    assert schedule.next_due() is None
    schedule.read_at(item, 7.0)
    assert schedule.choose(6.9) is None
    look = schedule.choose(7.0)
    assert look is not None
    assert look.item is item


def test_a_pages_sums_are_those_of_its_members() -> None:
    rng = random.Random(8)
    schedule = Schedule(POLICY, rng)
    notebook = schedule.notebook("nb")
    kept, fresh = Page(notebook, "t"), Page(notebook, "u")
    items = [Item(f"r{k}", notebook, 0.0, 1000.0 + rng.random() * 50) for k in range(50)]
    for item in items:
        item.hazard = rng.random()
        kept.put(item)
    for item in items[:30]:
        kept.take_out(item)
    before = kept.worth_reading(11.0)
    kept.reckon(1050.0)
    assert kept.worth_reading(11.0) == pytest.approx(before, abs=1e-6)
    assert fresh.worth_reading(11.0) == math.inf
    late = kept.worth_reading(11.0)
    members = kept.members.values()
    assert sum(item.hazard * (late - item.seen) ** 2 / 2 for item in members) == pytest.approx(11.0, rel=1e-3) or (
        late <= max(item.seen for item in members)
    )
