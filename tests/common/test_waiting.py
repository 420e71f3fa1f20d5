import pytest

from common.waiting import OBJECT_SECONDS, Backoff, Pause, look_again_after


def test_a_pause_is_a_fifth_of_the_wait_within_its_bounds() -> None:
    pause = Pause(0.1, 3.0)
    pauses = [pause.next() for _ in range(40)]
    assert pauses[0] == 0.1
    assert pauses == sorted(pauses)
    assert pauses[-1] == 3.0
    for before, following in zip(range(1, 40), pauses[1:], strict=True):
        assert following <= max(0.1, 0.2 * sum(pauses[:before])) + 1e-9
    pause.over()
    assert pause.next() == 0.1


def test_a_process_that_ends_early_waits_twice_as_long_each_time() -> None:
    backoff, failures, pauses = Backoff(), 0, []
    for _ in range(8):
        failures, pause = backoff.after(failures, lived=1.0)
        pauses.append(pause)
    assert pauses == [0.5, 1, 2, 4, 8, 15, 15, 15]
    # A SuperLink takes a minute to forget a SuperNode that was killed.
    assert sum(pauses) > 60
    assert backoff.after(10**6, lived=1.0)[1] == 15
    assert backoff.after(failures, lived=60.0) == (0, 0.5)


def test_an_object_is_looked_for_again_sooner() -> None:
    def pull(*, initial_backoff: float = 1.0, backoff_cap: float = 10.0) -> tuple[float, float]:
        return initial_backoff, backoff_cap

    look_again_after(pull, 0.02)
    assert pull() == (0.02, OBJECT_SECONDS)


def test_another_function_is_refused() -> None:
    with pytest.raises(TypeError, match="no such pauses: install the flwr that is pinned"):
        look_again_after(len, 0.02)
