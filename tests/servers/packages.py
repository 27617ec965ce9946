"""Finds, or installs, the Python packages and programs that the test servers need.

As root with apt: Debian's packages. Else: a virtual environment in the user's cache, filled by pip.
"""

import fcntl
import os
import shutil
import subprocess
import sys

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "martlet-test-servers")
POLICY = "/usr/sbin/policy-rc.d"


def can_import(python, modules):
    """Whether this interpreter has these modules; looks for them without running them."""
    look = "import importlib.util as u, sys; sys.exit(any(u.find_spec(m) is None for m in sys.argv[1:]))"
    command = [python, "-c", look, *modules]
    return os.path.exists(python) and subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0


def apt_install(names):
    """Installs Debian packages; nothing that they bring may start a service of its own."""
    made_policy = not os.path.exists(POLICY)
    if made_policy:
        with open(POLICY, "w") as f:
            f.write("#!/bin/sh\nexit 101\n")
        os.chmod(POLICY, 0o755)
    try:
        apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=600"]
        environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        install = [*apt, "install", "--no-install-recommends", *names]
        run = lambda command: subprocess.run(command, env=environment, stdout=sys.stderr, stdin=subprocess.DEVNULL)
        if run(install).returncode != 0:
            run([*apt, "update"])
            if run(install).returncode != 0:
                sys.exit(f"apt-get could not install {' '.join(names)}")
    finally:
        if made_policy:
            os.unlink(POLICY)


def python_with(modules, debian, pip):
    """An interpreter that has the modules, installing them if need be. One installation at a time."""
    system = "/usr/bin/python3"
    if can_import(system, modules):
        return system
    os.makedirs(CACHE, exist_ok=True)
    venv = os.path.join(CACHE, "venv")
    in_venv = os.path.join(venv, "bin", "python3")
    with open(os.path.join(CACHE, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if can_import(system, modules):
            return system
        if can_import(in_venv, modules):
            return in_venv
        if os.geteuid() == 0 and shutil.which("apt-get"):
            apt_install(debian)
            return system
        if not os.path.exists(in_venv):
            subprocess.run([sys.executable, "-m", "venv", venv], check=True, stdout=sys.stderr)
        install = [in_venv, "-m", "pip", "install", "-q", "--disable-pip-version-check", *pip]
        subprocess.run(install, check=True, stdout=sys.stderr)
        return in_venv


def program(name, debian):
    """The path of a program, installing its package if need be."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/bin:/usr/sbin")
    if path:
        return path
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        sys.exit(f"{name} is needed: install it (Debian: {debian})")
    apt_install([debian])
    return shutil.which(name, path="/usr/bin:/usr/sbin")
