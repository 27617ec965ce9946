#!/usr/bin/env python3
"""A real OpenStack Keystone (Identity v3, sqlite, fernet tokens) on 127.0.0.1 for tests.

    keystone_up.py run DIR [options]    in the foreground: one line of JSON when ready; the end of stdin stops it

Users: demo/demopass (member of project demo), reader/readerpass (reader), swift/swiftpass (service). The catalog's
object-store is --swift-url. A DIR that was prepared before is used again: the first start takes some ten seconds, a
later one two or three. Commands on stdin: `swift-url URL` (moves the catalog's
entry), `application-credential` (a new one of demo: "ok ID SECRET"), `quit`.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
import urllib.error
import urllib.request

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import packages  # noqa: E402

HOST = "127.0.0.1"


def free_port():
    while True:
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as s:
            try:
                s.bind((HOST, port))
                return port
            except OSError:
                continue


def configure(home, o):
    etc = os.path.join(home, "etc")
    for folder in ("policy.d", "fernet-keys", "credential-keys"):
        os.makedirs(os.path.join(etc, folder), mode=0o700, exist_ok=True)
    with open(os.path.join(etc, "keystone.conf"), "w") as f:
        # An empty policy_dirs makes oslo.policy read this very file as YAML.
        f.write(f"""[DEFAULT]
use_stderr = true
[database]
connection = sqlite:///{home}/keystone.db
[token]
provider = fernet
expiration = {o.token_life}
allow_expired_window = 0
[fernet_tokens]
key_repository = {etc}/fernet-keys
[credential]
key_repository = {etc}/credential-keys
[identity]
password_hash_rounds = 4
[oslo_policy]
policy_dirs = {etc}/policy.d
""")
    return os.path.join(etc, "keystone.conf")


def manage(home, conf, *words):
    """One keystone-manage command in a child that dies with its imports."""
    code = "import sys; from keystone.cmd.manage import main; sys.exit(main())"
    with open(os.path.join(home, "manage.log"), "ab") as log:
        command = [sys.executable, "-c", code, "--config-file", conf, *words]
        if subprocess.run(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL).returncode != 0:
            sys.exit(f"keystone-manage {words[0]} failed; see {home}/manage.log")


def prepare(home, conf):
    me = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    group = subprocess.run(["id", "-gn"], capture_output=True, text=True, check=True).stdout.strip()
    manage(home, conf, "db_sync")
    # Else "database is locked" as soon as two threads touch it.
    with sqlite3.connect(os.path.join(home, "keystone.db")) as db:
        db.execute("PRAGMA journal_mode=WAL")
    manage(home, conf, "fernet_setup", "--keystone-user", me, "--keystone-group", group)
    manage(home, conf, "credential_setup", "--keystone-user", me, "--keystone-group", group)
    manage(home, conf, "bootstrap", "--bootstrap-password", "adminpass", "--bootstrap-region-id", "RegionOne")


class Api:
    def __init__(self, url, name="admin", password="adminpass", project="admin"):
        self.url, self.token, self.user = f"{url}/v3", None, None
        self.ask = {"auth": {
            "identity": {"methods": ["password"], "password": {"user": {
                "name": name, "domain": {"id": "default"}, "password": password}}},
            "scope": {"project": {"name": project, "domain": {"id": "default"}}}}}
        self.authenticate()

    def authenticate(self):
        self.token = None
        headers, body = self.send("POST", "/auth/tokens", self.ask)
        self.token, self.user = headers["X-Subject-Token"], body["token"]["user"]["id"]

    def send(self, method, path, body=None):
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": "application/json", **({"X-Auth-Token": self.token} if self.token else {})}
        request = urllib.request.Request(self.url + path, method=method, data=data, headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as f:
            text = f.read()
            return f.headers, json.loads(text) if text else None

    def call(self, *request):
        try:
            return self.send(*request)
        except urllib.error.HTTPError as e:
            if e.code != 401:
                raise
            # Tokens may live for seconds only.
            self.authenticate()
            return self.send(*request)

    def make(self, kind, **body):
        return self.call("POST", f"/{kind}s", {kind: body})[1][kind]["id"]

    def populate(self):
        roles = {r["name"]: r["id"] for r in self.call("GET", "/roles")[1]["roles"]}
        project = lambda name: self.make("project", name=name, domain_id="default")
        user = lambda name, password: self.make("user", name=name, password=password, domain_id="default")
        grant = lambda p, u, role: self.call("PUT", f"/projects/{p}/users/{u}/roles/{roles[role]}")
        service, demo = project("service"), project("demo")
        grant(service, user("swift", "swiftpass"), "admin")
        grant(demo, user("demo", "demopass"), "member")
        grant(demo, user("reader", "readerpass"), "reader")

    def application_credential(self):
        made = self.call("POST", f"/users/{self.user}/application_credentials", {"application_credential": {
            "name": os.urandom(8).hex()}})[1]["application_credential"]
        return f"{made['id']} {made['secret']}"

    def move(self, kind, url):
        """Points the catalog's endpoints of a service at url."""
        found = self.call("GET", f"/services?type={kind}")[1]["services"]
        service = found[0]["id"] if found else self.make("service", name=kind, type=kind)
        known = {e["interface"]: e["id"] for e in self.call("GET", f"/endpoints?service_id={service}")[1]["endpoints"]}
        for interface in ("public", "internal", "admin"):
            if interface in known:
                self.call("PATCH", f"/endpoints/{known[interface]}", {"endpoint": {"url": url}})
            else:
                self.make("endpoint", interface=interface, region_id="RegionOne", service_id=service, url=url)

    def move_swift(self, url):
        self.move("object-store", f"{url}/v1/AUTH_%(project_id)s")


def serve(conf, port):
    os.environ["OS_KEYSTONE_CONFIG_FILES"] = conf
    sys.argv = sys.argv[:1]
    from keystone.server import wsgi
    import waitress
    application = wsgi.initialize_public_application()
    threading.Thread(target=waitress.serve, args=(application,),
                     kwargs={"host": HOST, "port": port, "threads": 4}, daemon=True).start()


def host(home, o):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    started = time.monotonic()
    done = os.path.join(home, "prepared")
    is_new = not os.path.exists(done)
    if is_new:
        # What an interrupted start left is of no use.
        shutil.rmtree(home, ignore_errors=True)
        os.makedirs(home)
    conf = configure(home, o)
    if is_new:
        prepare(home, conf)
    port = free_port()
    url = f"http://{HOST}:{port}"
    # The log goes to a file, so that stdout carries the answers only.
    answers, story = os.fdopen(os.dup(1), "w"), os.fdopen(os.dup(2), "w")
    log = os.open(os.path.join(home, "keystone.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    serve(conf, port)
    # Keystone sets its own, which writes to its log.
    sys.excepthook = lambda kind, e, trace: traceback.print_exception(kind, e, trace, file=story)
    end = time.monotonic() + 60
    while True:
        try:
            with socket.create_connection((HOST, port), timeout=2):
                break
        except OSError:
            if time.monotonic() > end:
                sys.exit("Keystone does not answer")
            time.sleep(0.05)
    api = Api(url)
    if is_new:
        api.populate()
        with open(done, "w"):
            pass
    # Both have new ports. The Swift of this test asks the catalog where Keystone is.
    api.move("identity", f"{url}/v3")
    api.move_swift(o.swift_url)
    answer = {"url": url, "dir": home, "pid": os.getpid(), "seconds": round(time.monotonic() - started, 2),
              "env": {"OS_AUTH_URL": url, "OS_USERNAME": "demo", "OS_PASSWORD": "demopass", "OS_PROJECT_NAME": "demo",
                      "OS_USER_DOMAIN_ID": "default", "OS_PROJECT_DOMAIN_ID": "default", "OS_REGION_NAME": "RegionOne"}}
    print(json.dumps(answer), file=answers, flush=True)
    for line in sys.stdin:
        words = line.split()
        if words[:1] == ["quit"]:
            break
        try:
            if words[:1] == ["swift-url"]:
                api.move_swift(words[1])
                print("ok", file=answers, flush=True)
            elif words[:1] == ["application-credential"]:
                made = Api(url, "demo", "demopass", "demo").application_credential()
                print(f"ok {made}", file=answers, flush=True)
            else:
                raise RuntimeError(f"no command {line.strip()}")
        except Exception as e:
            print(f"error {e}".replace("\n", " "), file=answers, flush=True)
    os._exit(0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["run", "host"])
    parser.add_argument("dir")
    parser.add_argument("--swift-url", default="http://127.0.0.1:8080")
    parser.add_argument("--token-life", type=int, default=3600, help="seconds")
    o = parser.parse_args()
    home = os.path.abspath(o.dir)
    if o.verb == "host":
        return host(home, o)
    python = packages.python_with(["keystone", "waitress"], ["python3-keystone", "python3-waitress"],
                                  ["keystone", "waitress"])
    os.environ["PYTHONWARNINGS"] = "ignore"
    os.execv(python, [python, os.path.abspath(__file__), "host", *sys.argv[2:]])


if __name__ == "__main__":
    main()
