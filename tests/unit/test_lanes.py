"""What the lanes of tests rely on."""

import torch


def test_a_process_of_tests_has_one_thread():
    """Beside each other, several threads each would only wait for one another."""
    assert torch.get_num_threads() == 1


def test_a_campaign_picks_the_same_cases_each_time_in_their_order(campaign):
    first, second = (campaign("picks", few=5, many=9) for _ in range(2))
    picked = first.pick(range(1000))
    assert picked == second.pick(range(1000)) == sorted(set(picked))
    assert len(picked) == first.size
    assert first.pick("abc") == ["a", "b", "c"]  # all there are
