"""What a site is given to run this with: image, services, unit, and the page about them.

Neither Docker nor a running systemd is at hand where these tests run: what they would read is
parsed, and the commands they would give are given here.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from cxr_core.commands import add_commands
from cxr_core.images.dicom import MANUFACTURER
from cxr_core.records import Opinion, Records

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "deployment.md"
UNIT, LISTENER = (
    ROOT / "deploy" / f"cxr-{name}.service" for name in ("second-opinion", "listener")
)
VARIABLE = re.compile(r"\bCXR_[A-Z]+(?:_[A-Z]+)*\b")
HOSTS = "STREAMLIT_SERVER_ALLOWED_HOSTS"

Instruction = tuple[str, str]


def instructions() -> list[Instruction]:
    """Read the Dockerfile: each instruction and what follows it, continued lines joined."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def last_stage() -> list[Instruction]:
    found = instructions()
    begin = max(k for k, (name, _) in enumerate(found) if name == "FROM")
    return found[begin:]


def said(name: str) -> str:
    """Return what the image is told once, under a name."""
    (value,) = (rest for one, rest in last_stage() if one == name)
    return value


def copied() -> list[str]:
    """Return what the image takes from this repository."""
    rests = [rest.split() for name, rest in instructions() if name == "COPY"]
    return [source for rest in rests if not rest[0].startswith("--") for source in rest[:-1]]


def services() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


def used_variables() -> set[str]:
    files = [ROOT / "app.py", *(ROOT / "pages").glob("*.py"), *(ROOT / "cxr_core").rglob("*.py")]
    return {name for path in files for name in VARIABLE.findall(path.read_text())}


def tabled_variables() -> set[str]:
    """Return what the page's table of settings names, a row each."""
    rows = re.findall(r"^\| `([A-Z_]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == len(set(rows))
    return set(rows)


# --- the image ---


def test_the_image_runs_as_nobody_in_particular():
    user = said("USER")
    names = [name for name, _ in last_stage()]

    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert "RUN" not in names[names.index("USER") :]
    assert f"useradd --uid {user.split(':')[0]} " in dict(last_stage()[:2])["RUN"]


def test_the_image_starts_from_a_named_version_and_fetches_nothing_itself():
    for name, rest in instructions():
        assert name != "ADD"
        if name == "FROM":
            assert re.match(r"python:3\.1[123]-slim-\w+( AS \w+)?$", rest)
        if name == "RUN":
            assert not re.search(r"curl|wget|apt", rest)


def test_the_image_takes_what_is_there_and_what_docker_may_see():
    rules = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    shown = {rule[1:] for rule in rules if rule.startswith("!")}

    assert rules[0] == "*"
    assert set(copied()) == shown
    assert all((ROOT / name).exists() for name in shown)


def test_the_image_holds_all_that_the_app_imports_of_ours():
    assert {"app.py", "pages", "cxr_core", "models", ".streamlit/config.toml"} <= set(copied())


def test_no_secret_can_be_copied_or_committed():
    hidden = (ROOT / ".gitignore").read_text().split()

    for name in (".streamlit/secrets.toml", ".env"):
        assert name in hidden
        assert not any(fnmatch(name, one) or name.startswith(f"{one}/") for one in copied())


def lines(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text().splitlines() if line and line[0] != "#"]


def test_a_server_gets_the_pins_that_were_tested_and_all_but_what_trains():
    first, *server = lines("deploy/requirements.txt")
    pinned = {line for line in server if "==" in line}
    named = {re.split("[=;]", line)[0] for line in lines("requirements.txt")}

    assert first == "-c ../requirements.txt"
    assert pinned and pinned <= set(lines("requirements-dev.txt"))
    assert set(server) - pinned == named - {"tensorflow", "tensorflow-cpu", "keras"}


# --- the image's own commands, run here ---


def told(*, served: bool) -> dict[str, str]:
    """Return the environment of the app's container, or of the image by itself."""
    environment = dict(os.environ) | {"CXR_RECORDS": "off"}
    if not served:
        return environment
    compose = services()["app"]["environment"]
    wanted = {name: value for name, value in compose.items() if name.startswith("STREAMLIT_")}
    wanted[HOSTS] = re.sub(r"\$\{CXR_HOST:\?[^}]*\}", "cxr.hospital.example", wanted[HOSTS])
    return environment | wanted | {"CXR_BEHIND_PROXY": compose["CXR_BEHIND_PROXY"]}


@contextmanager
def container(port: int, environment: dict[str, str]) -> Iterator[None]:
    """Run the command of the image as its entry would."""
    command = [sys.executable if one == "python" else one for one in json.loads(said("CMD"))]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment | {"STREAMLIT_SERVER_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def healthy(port: int) -> bool:
    """Ask as the image's health check does."""
    command = json.loads(said("HEALTHCHECK").split(" CMD ")[1])
    assert "127.0.0.1:8501/" in command[-1]
    done = subprocess.run(
        [sys.executable, *command[1:-1], command[-1].replace("8501", str(port))],
        capture_output=True,
        timeout=60,
    )
    return done.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("served", [False, True], ids=["this machine alone", "behind a proxy"])
def test_the_health_check_tells_a_server_that_runs_from_one_that_does_not(served):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert not healthy(port)
    with container(port, told(served=served)):
        end = time.monotonic() + 120
        while not healthy(port):
            assert time.monotonic() < end, "it never became healthy"
            time.sleep(0.5)
    assert not healthy(port)


# --- the services ---


def test_only_this_machine_reaches_the_app_and_nobody_its_records():
    found = services()

    assert found["app"]["ports"] == ["127.0.0.1:8501:8501"]
    assert "ports" not in found["records"] and found["records"]["networks"] == ["inside"]
    assert found["archive"]["ports"] == ["4242:4242"]
    networks = yaml.safe_load((ROOT / "compose.yaml").read_text())["networks"]
    assert networks["inside"]["internal"] is True


def test_the_app_is_served_to_people_who_sign_in():
    """As Streamlit itself understands the settings of the container."""
    shown = subprocess.run(
        [sys.executable, "-m", "streamlit", "config", "show"],
        cwd=ROOT, env=told(served=True), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    settings = tomllib.loads(shown.stdout[shown.stdout.index("[global]") :])
    (secret,) = services()["app"]["secrets"]

    assert services()["app"]["environment"]["CXR_BEHIND_PROXY"] == "1"
    assert settings["server"]["address"] == "0.0.0.0"
    assert settings["server"]["allowedHosts"] == ["cxr.hospital.example", "127.0.0.1"]
    assert settings["secrets"]["files"] == [f"/run/secrets/{secret}"]


def test_the_app_may_write_its_own_folder_and_nothing_else():
    app = services()["app"]

    assert app["read_only"] and app["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in app["security_opt"]
    writable = [one.split(":")[1] for one in app["volumes"] if not one.endswith(":ro")]
    assert writable == json.loads(said("VOLUME"))


def test_every_setting_of_the_services_is_one_the_app_knows():
    named = {name for name in services()["app"]["environment"] if name.startswith("CXR_")}

    assert named <= used_variables()


def test_every_volume_secret_and_variable_is_declared():
    text = (ROOT / "compose.yaml").read_text()
    whole = yaml.safe_load(text)
    mounted = [one for service in whole["services"].values() for one in service["volumes"]]

    names = {one.split(":")[0] for one in mounted}
    assert {name for name in names if not name.startswith(".")} == set(whole["volumes"])
    assert all((ROOT / name).is_dir() for name in names if name.startswith("."))
    assert whole["secrets"]["access"]["file"] == "./.streamlit/secrets.toml"
    for name in re.findall(r"\$\{(\w+)", text):
        assert f"{name}=" in PAGE.read_text(), f"{name} is not explained"


def test_no_password_stands_in_the_services():
    for service in services().values():
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name:
                assert value.startswith("${")


def test_images_have_a_version():
    for service in services().values():
        assert "build" in service or re.search(r":\d[\w.-]+$", service["image"])


def test_the_archive_takes_films_from_listed_units_alone():
    settings = json.loads((ROOT / "deploy" / "orthanc" / "orthanc.json").read_text())

    (app,) = settings["DicomModalities"].values()
    may = {name for name, value in app.items() if name.startswith("Allow") and value}
    assert may == {"AllowStore", "AllowEcho"}
    assert settings["DicomCheckCalledAet"] is True
    assert settings["DicomAlwaysAllowStore"] is False and settings["RemoteAccessAllowed"] is False


def test_answers_go_from_the_app_to_the_archive():
    settings = json.loads((ROOT / "deploy" / "orthanc" / "orthanc.json").read_text())
    told = services()["app"]["environment"]
    (_, given) = told["CXR_SEND_TO"].removesuffix("}").split(":-")

    assert given == f"{settings['DicomAet']}@archive:{settings['DicomPort']}"
    assert told["CXR_DICOM_AET"] == settings["DicomModalities"]["app"]["AET"]


def test_films_go_from_the_archive_to_the_worklist():
    script_of_the_archive = (ROOT / "deploy" / "orthanc" / "inbox.lua").read_text()
    (given,) = re.findall(r"INBOX = '(.+)/'", script_of_the_archive)
    found = services()

    assert given == found["app"]["environment"]["CXR_INBOX"]
    assert f"OURS = '{MANUFACTURER}'" in script_of_the_archive
    assert f"inbox:{given}" in found["archive"]["volumes"]
    assert f"inbox:{given}:ro" in found["app"]["volumes"]
    settings = json.loads((ROOT / "deploy" / "orthanc" / "orthanc.json").read_text())
    (script,) = settings["LuaScripts"]
    assert script == "/etc/orthanc/inbox.lua"
    assert "./deploy/orthanc:/etc/orthanc:ro" in found["archive"]["volumes"]


# --- the unit ---


@pytest.mark.parametrize("word", ["verify", "security"])
@pytest.mark.parametrize("unit", [UNIT, LISTENER], ids=["app", "listener"])
def test_systemd_accepts_the_units(tmp_path, unit, word):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    here = tmp_path / unit.name
    here.write_text(unit.read_text().replace("/opt/cxr/.venv/bin/python", sys.executable))
    # Of 10, which is no protection at all, at most 2.
    options = {"verify": ["--man=no"], "security": ["--offline=true", "--threshold=20"]}
    done = subprocess.run(
        ["systemd-analyze", word, *options[word], here], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Unknown" not in done.stderr


def test_the_listener_is_started_by_a_command_that_exists_and_told_where_films_go():
    told = LISTENER.read_text()
    (started,) = re.findall(r"^ExecStart=\S+ -m cxr_core (.+)$", told, re.MULTILINE)
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())

    assert parser.parse_args(shlex.split(started)).run
    assert re.search(r"^StateDirectory=cxr cxr/inbox$", told, re.MULTILINE)
    assert "CXR_INBOX=/var/lib/cxr/inbox" in told


def test_the_unit_starts_what_the_image_starts():
    (started,) = re.findall(r"^ExecStart=(.+)$", UNIT.read_text(), re.MULTILINE)

    assert shlex.split(started)[1:] == json.loads(said("CMD"))[1:]


# --- the page ---


def test_the_page_lists_every_setting_and_no_other():
    ours = {name for name in tabled_variables() if name.startswith("CXR_")}

    assert ours == used_variables()


def test_the_page_names_files_that_are_there():
    named = re.findall(r"`((?:deploy|docs)/[\w./-]+|compose\.yaml|Dockerfile)`", PAGE.read_text())
    linked = re.findall(r"\]\(([^)#:]+)\)", PAGE.read_text())

    assert named and linked
    assert all((ROOT / name).exists() for name in named)
    assert all((PAGE.parent / name).exists() for name in linked)


def test_the_backup_on_the_page_is_whole_while_the_records_are_in_use(tmp_path):
    (command,) = re.findall(r"^python -c \"(import sqlite3.+)\"$", PAGE.read_text(), re.MULTILINE)
    kept, saved = tmp_path / "records.sqlite", tmp_path / "copy.sqlite"
    code = command.replace("/var/lib/cxr/records.sqlite", str(kept))
    code = re.sub(r"'/backup/[^']+'", f"'{saved}'", code)

    said_of = Opinion(digest="a" * 64, label="Pneumonia", stance="present")
    with closing(Records(f"sqlite:///{kept}")) as records:
        records.add(said_of)
        with closing(sqlite3.connect(kept)) as writing:  # another's write that is under way
            writing.execute("BEGIN IMMEDIATE")
            writing.execute("DELETE FROM opinions")
            subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
            writing.rollback()
    with closing(Records(f"sqlite:///{saved}")) as records:
        assert [one.digest for one in records.opinions()] == [said_of.digest]
    with (
        closing(sqlite3.connect(saved)) as copy,
        pytest.raises(sqlite3.IntegrityError, match="only added to"),
    ):
        copy.execute("UPDATE opinions SET label = 'better'")
