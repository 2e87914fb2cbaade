"""Units and addresses made from settings, and the files of systemd/ that are such."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from imds_proxy import registry
from imds_proxy.cli import main
from imds_proxy.rendering import network, systemd
from imds_proxy.rendering.files import RenderedFile, RenderingError, write_files
from tests.standins.manual import ROOT

if TYPE_CHECKING:
    from imds_proxy.config import Settings

COMMON = """
accounts: {main: {id: "123456789012"}}
aws: {region: eu-central-1}
"""
MACHINES = "{type: simple, grants: [{account: main, role: demo}]}"
GATEWAY = (
    """
listen:
  - {address: "169.254.169.254", callers: [10.77.0.0/16]}
  - {address: "[fd00:ec2::254]", callers: ["fd77::/64"]}
network: {interfaces: [lan0]}
provider: """
    + MACHINES
    + COMMON
)
WITH_PEOPLE = (
    """
listen: [{address: "169.254.169.254", callers: [10.77.0.0/16], provider: machines}]
people:
  listen:
    - {address: "127.0.0.1:8443"}
    - {unix: /run/imds-proxy/people.sock, mode: "0660", group: adm}
    - {unix: /run/imds-proxy/100%.sock}
  provider: people
  identity: {header: X-User, trusted: [127.0.0.1, root], secret_file: SECRET}
providers:
  machines: """
    + MACHINES
    + """
  people: {type: grp, regex: "(?P<account>.*)-(?P<role>.*)"}"""
    + COMMON
)
PEOPLE_ALONE = (
    """
people:
  listen: [{unix: /run/imds-proxy/people.sock}]
  identity: {peer: true}
provider: {type: grp, regex: "(?P<account>.*)-(?P<role>.*)"}"""
    + COMMON
)

NETWORK_FILE = ("--network-file", "10-lan0.network")


def settings_of(tmp_path: Path, text: str) -> Settings:
    """Return the settings of a configuration without faults."""
    file = tmp_path / "imds-proxy.yaml"
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text("0123456789abcdef0123456789abcdef")
    file.write_text(text.replace("SECRET", str(secret)))
    loaded = registry.load(file, {})
    assert loaded.configuration is not None, loaded.faults
    return loaded.configuration.settings


def texts(files: tuple[RenderedFile, ...]) -> dict[str, str]:
    """Return the texts of files by their names."""
    return {file.name: file.text for file in files}


def lines(text: str, key: str) -> list[str]:
    """Return the values of a key of a unit."""
    return [value for name, _, value in (line.partition("=") for line in text.splitlines()) if name == key]


def test_one_socket_unit_has_all_addresses(tmp_path: Path) -> None:
    """Those for machines and those for people, whether the addresses are there or not."""
    units = texts(systemd.render(settings_of(tmp_path, WITH_PEOPLE)))
    assert lines(units["imds-proxy.socket"], "ListenStream") == ["169.254.169.254:80", "127.0.0.1:8443"]
    assert lines(units["imds-proxy.socket"], "FreeBind") == ["yes"]
    assert lines(units["imds-proxy.socket"], "Service") == ["imds-proxy.service"]


def test_every_unix_socket_has_a_unit_of_its_own(tmp_path: Path) -> None:
    """With mode and group; `%` means something to systemd and is doubled."""
    units = texts(systemd.render(settings_of(tmp_path, WITH_PEOPLE)))
    first, second = units["imds-proxy-people.socket"], units["imds-proxy-people-2.socket"]
    assert lines(first, "ListenStream") == ["/run/imds-proxy/people.sock"]
    assert (lines(first, "SocketMode"), lines(first, "SocketGroup")) == (["0660"], ["adm"])
    assert lines(second, "ListenStream") == ["/run/imds-proxy/100%%.sock"]
    assert (lines(second, "SocketMode"), lines(second, "SocketGroup")) == (["0600"], [])


def test_users_at_a_socket_are_seen(tmp_path: Path) -> None:
    """With a unix socket the service gets a drop-in: no user namespace, and all sockets come along."""
    drop_in = texts(systemd.render(settings_of(tmp_path, WITH_PEOPLE)))["imds-proxy.service.d/people.conf"]
    assert lines(drop_in, "PrivateUsers") == ["no"]
    others = "imds-proxy-people.socket imds-proxy-people-2.socket"
    assert lines(drop_in, "Sockets") == [f"imds-proxy.socket {others}"]
    assert lines(drop_in, "Requires") == [others]


def test_people_alone(tmp_path: Path) -> None:
    """The service requires imds-proxy.socket: the only socket is that."""
    units = texts(systemd.render(settings_of(tmp_path, PEOPLE_ALONE)))
    assert sorted(units) == ["imds-proxy.service.d/people.conf", "imds-proxy.socket"]
    assert lines(units["imds-proxy.socket"], "ListenStream") == ["/run/imds-proxy/people.sock"]


def test_both_families_on_one_socket(tmp_path: Path) -> None:
    """`[::]` takes IPv4 callers, too, as it does without systemd; any other IPv6 address does not."""
    text = GATEWAY.replace("[fd00:ec2::254]", "[::]:8080")
    both = texts(systemd.render(settings_of(tmp_path, text)))["imds-proxy.socket"]
    assert lines(both, "BindIPv6Only") == ["both"]
    one = texts(systemd.render(settings_of(tmp_path, GATEWAY)))["imds-proxy.socket"]
    assert lines(one, "BindIPv6Only") == ["ipv6-only"]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("169.254.169.254", "127.0.0.1:0", "port 0"),
        ("people.sock", "peo ple.sock", "blanks"),
        ("people.sock", "people.sock\\\\", "backslashes"),
        ("/run/imds-proxy/people.sock", "8080", "from / on"),
    ],
)
def test_what_a_unit_cannot_say(tmp_path: Path, old: str, new: str, what: str) -> None:
    """Is an error and no unit."""
    settings = settings_of(tmp_path, WITH_PEOPLE.replace(old, new))
    with pytest.raises(RenderingError, match=what):
        systemd.render(settings)


def test_the_address_unit(tmp_path: Path) -> None:
    """IPv4 goes on lo, IPv6 on the first interface, without duplicate detection; all of it can be undone."""
    (unit,) = network.render(settings_of(tmp_path, GATEWAY))
    assert unit.name == "imds-proxy-address.service"
    assert lines(unit.text, "ExecStart") == [
        "/sbin/ip address replace 169.254.169.254/32 dev lo",
        "/sbin/ip address replace fd00:ec2::254/128 dev lan0 nodad",
    ]
    assert len(lines(unit.text, "ExecStop")) == 2


def test_a_dummy_interface(tmp_path: Path) -> None:
    """Is made before and removed after."""
    (unit,) = network.render(
        settings_of(tmp_path, GATEWAY.replace("{interfaces", "{device: dummy, interfaces"))
    )
    assert lines(unit.text, "ExecStart")[:3] == [
        "-/sbin/ip link add imds0 type dummy",
        "/sbin/ip link set imds0 up",
        "/sbin/ip address replace 169.254.169.254/32 dev imds0",
    ]


def test_files_for_networkd(tmp_path: Path) -> None:
    """IPv4 is on an interface that nobody else manages."""
    only_v4 = GATEWAY.replace('  - {address: "[fd00:ec2::254]", callers: ["fd77::/64"]}\n', "")
    rendered = texts(network.render(settings_of(tmp_path, only_v4), "networkd"))
    assert sorted(rendered) == ["50-imds-proxy.network"]
    assert lines(rendered["50-imds-proxy.network"], "Address") == ["169.254.169.254/32"]
    dummy = settings_of(tmp_path, only_v4.replace("{interfaces", "{device: dummy, interfaces"))
    rendered = texts(network.render(dummy, "networkd"))
    assert sorted(rendered) == ["50-imds-proxy.netdev", "50-imds-proxy.network"]
    assert lines(rendered["50-imds-proxy.network"], "Name") == ["imds0"]


def test_networkd_needs_the_file_of_the_callers_interface(tmp_path: Path) -> None:
    """A unit among its files would be read by nobody, and networkd would take the unit's address away."""
    with pytest.raises(RenderingError, match=r"--network-file is required: .*fd00:ec2::254 on lan0"):
        network.render(settings_of(tmp_path, GATEWAY), "networkd")


def test_a_drop_in_for_the_interface_of_the_callers(tmp_path: Path) -> None:
    """With the name of its own file, networkd has the IPv6 address too, and there is no unit."""
    rendered = texts(network.render(settings_of(tmp_path, GATEWAY), "networkd", "10-lan0.network"))
    assert sorted(rendered) == ["10-lan0.network.d/imds-proxy.conf", "50-imds-proxy.network"]
    drop_in = rendered["10-lan0.network.d/imds-proxy.conf"]
    assert lines(drop_in, "Address") == ["fd00:ec2::254/128"]
    assert lines(drop_in, "DuplicateAddressDetection") == ["none"]


@pytest.mark.parametrize("name", ["lan0", "../lan0.network", "/etc/x.network", ".network", "a b.network"])
def test_the_interface_has_a_file_by_name(tmp_path: Path, name: str) -> None:
    """Not a path, and nothing that networkd would not read."""
    with pytest.raises(RenderingError, match=r"10-lan0\.network"):
        network.render(settings_of(tmp_path, GATEWAY), "networkd", name)


def test_a_drop_in_is_for_networkd(tmp_path: Path) -> None:
    """Wrong usage (2): the unit would add the address as well."""
    config = tmp_path / "imds-proxy.yaml"
    config.write_text(GATEWAY)
    arguments = ["render", "network", *NETWORK_FILE, "--config", str(config)]
    assert CliRunner().invoke(main, arguments).exit_code == 2
    with_style = CliRunner().invoke(main, [*arguments, "--style", "networkd"])
    assert (with_style.exit_code, "10-lan0.network.d/imds-proxy.conf" in with_style.stdout) == (0, True)


def test_addresses_of_this_host_are_not_carried(tmp_path: Path) -> None:
    """Only what SDKs have built in is added; a router that takes packets over carries nothing."""
    own = GATEWAY.replace("169.254.169.254", "10.77.0.1:8080").replace("[fd00:ec2::254]", "[fd77::1]:8080")
    assert network.render(settings_of(tmp_path, own)) == ()


def test_ipv6_needs_an_interface(tmp_path: Path) -> None:
    """The error names the key."""
    settings = settings_of(tmp_path, GATEWAY.replace("network: {interfaces: [lan0]}", ""))
    with pytest.raises(RenderingError, match=r"network\.interfaces"):
        network.render(settings)


@pytest.mark.parametrize("name", ["imds-proxy.socket", "imds-proxy-address.service"])
def test_shipped_files_are_rendered_ones(tmp_path: Path, name: str) -> None:
    """What systemd/ has is what a gateway with both metadata addresses gets."""
    settings = settings_of(tmp_path, GATEWAY)
    rendered = texts((*systemd.render(settings), *network.render(settings)))
    assert (ROOT / "systemd" / name).read_text() == rendered[name]


def test_the_service_starts_this_installation() -> None:
    """For those who have installed with pip; all else of the unit is the shipped one."""
    unit = systemd.render_service()
    shipped = (ROOT / "systemd/imds-proxy.service").read_text()
    (start,) = lines(unit.text, "ExecStart")
    assert Path(start.split()[0]).is_file()
    assert unit.text.replace(start.split()[0], "/opt/imds-proxy/bin/imds-proxy") == shipped


def test_files_are_written_once(tmp_path: Path) -> None:
    """A file that is as it should be is left alone; one with other text or another mode is replaced."""
    files = (RenderedFile("a.d/b.conf", "x\n"), RenderedFile("c", "y\n", 0o600))
    b, c = tmp_path / "a.d/b.conf", tmp_path / "c"
    assert write_files(files, tmp_path) == [f"written {b}", f"written {c}"]
    before = b.stat()
    assert write_files(files, tmp_path) == [f"unchanged {b}", f"unchanged {c}"]
    assert b.stat().st_ino == before.st_ino
    c.chmod(0o644)
    assert write_files(files, tmp_path) == [f"unchanged {b}", f"written {c}"]
    assert c.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.d", "c"]


def test_folders_are_readable_whatever_the_umask(tmp_path: Path) -> None:
    """systemd-networkd reads its drop-ins as a user of its own."""
    before = os.umask(0o077)
    try:
        write_files((RenderedFile("a.network.d/b.conf", ""),), tmp_path / "new")
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "new", tmp_path / "new/a.network.d")]
    assert modes == [0o755, 0o755]


def test_a_masked_unit_stays_masked(tmp_path: Path) -> None:
    """Somebody has said that it is not to run."""
    masked = tmp_path / "imds-proxy.socket"
    masked.symlink_to(os.devnull)
    with pytest.raises(RenderingError, match=r"imds-proxy\.socket is masked: systemctl unmask"):
        write_files((RenderedFile("imds-proxy.socket", "x"),), tmp_path)
    assert masked.is_symlink()


def test_a_folder_that_is_no_folder(tmp_path: Path) -> None:
    """Is an error that names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(RenderingError, match="file"):
        write_files((RenderedFile("a", ""),), tmp_path / "file")


def test_the_command_to_stdout_and_into_a_folder(tmp_path: Path) -> None:
    """To stdout several have their names in front; with a folder it says what became of each and is next."""
    config = tmp_path / "imds-proxy.yaml"
    config.write_text(GATEWAY)
    run = CliRunner().invoke
    shown = run(main, ["render", "systemd", "--config", str(config)])
    assert shown.exit_code == 0
    assert shown.stdout == (ROOT / "systemd/imds-proxy.socket").read_text()
    folder = tmp_path / "units"
    written = run(main, ["render", "systemd", "--config", str(config), "--dir", str(folder)])
    assert written.stdout == f"written {folder}/imds-proxy.socket\n"
    assert "next: systemctl daemon-reload" in written.stderr
    again = run(main, ["render", "network", "--style", "networkd", *NETWORK_FILE, "--config", str(config)])
    assert again.stdout.startswith("# --- 50-imds-proxy.network\n")


def test_the_command_with_faults(tmp_path: Path) -> None:
    """2 for a faulty configuration, 1 for one that can't be rendered; each says why on stderr."""
    config = tmp_path / "imds-proxy.yaml"
    config.write_text(GATEWAY.replace("[lan0]", "lan0"))
    faulty = CliRunner().invoke(main, ["render", "network", "--config", str(config)])
    assert (faulty.exit_code, faulty.stdout) == (2, "")
    config.write_text(GATEWAY.replace("network: {interfaces: [lan0]}", ""))
    failed = CliRunner().invoke(main, ["render", "network", "--config", str(config)])
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert "network.interfaces" in failed.stderr
