"""Hosts that may be dialled and hosts that may not, by name and by address."""

from __future__ import annotations

import pytest

from runicorn_remote.errors import TargetForbidden
from runicorn_remote.ssh.target_rules import TargetRules


def passes(rules: TargetRules, host: str, *, looked_up_elsewhere: bool = False) -> bool:
    try:
        rules.check_host(host, looked_up_elsewhere=looked_up_elsewhere)
    except TargetForbidden:
        return False
    return True


def test_without_rules_all_is_allowed() -> None:
    rules = TargetRules()
    assert passes(rules, "gpu1")
    assert passes(rules, "169.254.169.254")
    assert rules.permits("gpu1", "10.0.0.1")


@pytest.mark.parametrize(
    ("net", "addresses"),
    [
        ("10.0.0.0/8", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "2002:0a01:0203::1"]),
        ("10.1.2.3", ["10.1.2.3", "::ffff:a01:203"]),
        ("10.1.2.3/8", ["10.9.9.9"]),
        ("127.0.0.0/8", ["127.0.0.1", "127.1.2.3", "0.0.0.0", "::ffff:127.0.0.1", "::ffff:0.0.0.0"]),
        ("0.0.0.0", ["0.0.0.0", "::ffff:0.0.0.0"]),
        ("::1", ["::1", "::", "0:0:0:0:0:0:0:1"]),
        ("fe80::/10", ["fe80::1", "fe80::1%eth0", "fe80::1%2"]),
        ("::ffff:10.0.0.0/104", ["10.1.2.3", "::ffff:10.1.2.3"]),
        ("[fd00::1]", ["fd00::1"]),
    ],
)
def test_a_denied_net_in_all_its_spellings(net: str, addresses: list[str]) -> None:
    rules = TargetRules(allowed=["*"], denied=[net])
    for address in addresses:
        assert not rules.permits("gpu1", address), address
        assert not passes(rules, address), address
    assert rules.permits("gpu1", "192.0.2.1")
    assert rules.permits("gpu1", "2001:db8::1")


@pytest.mark.parametrize("host", ["127.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.0.0.1"])
def test_an_address_in_the_spellings_of_old(host: str) -> None:
    assert not passes(TargetRules(denied=["127.0.0.0/8"]), host)
    assert not passes(TargetRules(allowed=["?x*", "1*z"]), host), "it is no name"


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("gpu1", ["gpu1", "GPU1", "gpu1."], ["gpu12", "gpu1.example.org", "xgpu1"]),
        (
            "*.cluster.example.org",
            ["a.cluster.example.org", "a.b.Cluster.Example.org."],
            ["cluster.example.org"],
        ),
        ("GPU?.Example.org.", ["gpu1.example.org"], ["gpu10.example.org", "gpu.example.org"]),
        ("*", ["gpu1", "10.0.0.1", "::1"], []),
    ],
)
def test_names(pattern: str, matching: list[str], others: list[str]) -> None:
    allowing, denying = TargetRules(allowed=[pattern]), TargetRules(denied=[pattern])
    for host in matching:
        assert passes(allowing, host)
        assert not passes(denying, host)
    for host in others:
        assert not passes(allowing, host)
        assert passes(denying, host)


def test_a_name_that_is_allowed_leads_anywhere_but_to_denied_nets() -> None:
    rules = TargetRules(allowed=["gpu1", "192.0.2.0/24"], denied=["10.0.0.0/8"])
    assert rules.permits("gpu1", "203.0.113.7")
    assert not rules.permits("gpu1", "10.0.0.1")
    assert rules.permits("other", "192.0.2.9")
    assert not rules.permits("other", "203.0.113.7")
    assert not passes(rules, "203.0.113.7"), "its address is no name"


def test_what_can_be_said_before_anything_is_looked_up() -> None:
    only_names = TargetRules(allowed=["gpu*"])
    assert passes(only_names, "gpu1")
    assert not passes(only_names, "other")
    with_nets = TargetRules(allowed=["gpu*", "10.0.0.0/8"])
    assert passes(with_nets, "other"), "its address decides"
    assert not passes(with_nets, "other", looked_up_elsewhere=True)
    assert passes(with_nets, "gpu1", looked_up_elsewhere=True)
    assert passes(with_nets, "10.2.3.4", looked_up_elsewhere=True)
    assert passes(TargetRules(denied=["10.0.0.0/8"]), "other", looked_up_elsewhere=True)


@pytest.mark.parametrize(
    "rule", ["10.*", "10.0.0.0/33", "", "a b", "a,b", "1.2.3.4.5", "me@gpu1", "gpu1:22", "a/8"]
)
def test_a_rule_that_cannot_be_used(rule: str) -> None:
    for given in ({"allowed": [rule]}, {"denied": [rule]}):
        with pytest.raises(ValueError, match="is not a host name, an address or a net"):
            TargetRules(**given)
