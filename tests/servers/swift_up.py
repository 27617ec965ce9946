#!/usr/bin/env python3
"""A real OpenStack Swift on 127.0.0.1 for tests: proxy, account, container and object servers, memcached.

    swift_up.py run DIR [options]      in the foreground: one line of JSON when ready, then commands on stdin
                                    (answers: "ok ..." or "error ..."); the end of stdin stops everything
    swift_up.py start DIR [options]    the same in the background; prints the JSON
    swift_up.py ctl DIR COMMAND ...    a command to a running one
    swift_up.py stop DIR               stops it; with --wipe removes DIR

Commands: start|stop|kill|restart|pause|cont NAME...   alive NAME   once DAEMON [N]   skew SECONDS   still SECONDS
          where ACCOUNT CONTAINER OBJECT   names   quit
Names: memcached proxy late-proxy object1 container1 account1 object2 ...   (late-proxy: a second proxy with a wrong
clock: skew says how far it is ahead, still that it stands there, and answers with the second at which it does; for its
next start. where answers with the object servers of an object, primaries first). Daemons: object-replicator object-updater container-updater container-replicator ...

One process imports Swift once and forks every server, so that a start takes about two seconds and a restart a tenth.
Each server is one process: pause, kill and cont mean exactly that server.
"""

import argparse
import ctypes
import gc
import importlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import packages  # noqa: E402

HOST = "127.0.0.1"


def options(parser):
    a = parser.add_argument
    a("--replicas", type=int, default=1, help="replicas of everything")
    a("--nodes", type=int, help="storage nodes; more than replicas gives handoffs (default: as replicas)")
    a("--token-life", type=int, default=86400, help="seconds that a TempAuth token lives")
    a("--keystone", help="Keystone's URL: keystoneauth in place of TempAuth")
    a("--ratelimit", type=int, default=0, help="object writes per second and container")
    a("--node-timeout", type=float, default=10, help="the proxy waits so long for a storage server")
    a("--client-timeout", type=float, default=60, help="the proxy waits so long for a client")
    a("--conn-timeout", type=float, default=0.5, help="the proxy waits so long for a connection to one")
    a("--error-interval", type=float, default=60, help="a server that erred is left out for so long")
    a("--info-cache", type=int, default=60, help="the proxy remembers containers and accounts for so long")
    a("--wipe", action="store_true", help="remove DIR at the end")


# ---- configuration -----------------------------------------------------------------------------------------------


def free_ports(count):
    """Ports that nobody holds now, below the range that connections draw their own from."""
    while True:
        first = random.SystemRandom().randrange(20000, 32000 - count)
        held = []
        try:
            for port in range(first, first + count):
                s = socket.socket()
                held.append(s)
                s.bind((HOST, port))
            return list(range(first, first + count))
        except OSError:
            continue
        finally:
            for s in held:
                s.close()


def ini(path, sections):
    with open(path, "w") as f:
        for name, body in sections.items():
            print(f"[{name}]", file=f)
            for key, value in body.items():
                print(f"{key} = {value}", file=f)


def configure(home, o):
    """Writes every file but the rings; returns {server: port}."""
    etc = os.path.join(home, "etc")
    nodes = o.nodes or o.replicas
    names = ["proxy", "late-proxy", "memcached"]
    names += [f"{kind}{n}" for n in range(1, nodes + 1) for kind in ("object", "container", "account")]
    ports = dict(zip(names, free_ports(len(names))))
    for folder in ("etc", "log", "srv"):
        os.makedirs(os.path.join(home, folder), exist_ok=True)
    secret = os.urandom(8).hex()
    ini(f"{etc}/swift.conf", {
        "swift-hash": {"swift_hash_path_prefix": secret, "swift_hash_path_suffix": secret},
        "storage-policy:0": {"name": "gold", "policy_type": "replication", "default": "yes"},
    })
    me = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    base = {"bind_ip": HOST, "workers": 0, "user": me, "swift_dir": etc, "log_level": "INFO"}
    auth = "authtoken keystoneauth" if o.keystone else "tempauth"
    throttle = "ratelimit " if o.ratelimit else ""
    egg = lambda name, **more: {"use": f"egg:swift#{name}", **more}
    for proxy in ("proxy", "late-proxy"):
        ini(f"{etc}/{proxy}.conf", {
            "DEFAULT": {**base, "bind_port": ports[proxy], "client_timeout": o.client_timeout},
            "pipeline:main": {"pipeline": "catch_errors gatekeeper healthcheck proxy-logging cache listing_formats bulk "
                              f"{throttle}{auth} copy container-quotas account-quotas slo dlo versioned_writes symlink "
                              "proxy-logging proxy-server"},
            "app:proxy-server": egg("proxy", account_autocreate="true", node_timeout=o.node_timeout,
                                    conn_timeout=o.conn_timeout,
                                    error_suppression_interval=o.error_interval, error_suppression_limit=10,
                                    recheck_container_existence=o.info_cache, recheck_account_existence=o.info_cache),
            "filter:cache": egg("memcache", memcache_servers=f"{HOST}:{ports['memcached']}"),
            "filter:ratelimit": egg("ratelimit", clock_accuracy=1000, max_sleep_time_seconds=1, account_ratelimit=0,
                                    container_ratelimit_0=o.ratelimit),
            "filter:tempauth": egg("tempauth", token_life=o.token_life, user_admin_admin="admin .admin .reseller_admin",
                                   user_test_tester="testing .admin", user_test_reader="reading",
                                   user_test2_tester2="testing2 .admin"),
            "filter:authtoken": {
                "paste.filter_factory": "keystonemiddleware.auth_token:filter_factory",
                "www_authenticate_uri": o.keystone, "auth_url": o.keystone, "auth_type": "password",
                "project_domain_id": "default", "user_domain_id": "default", "project_name": "service",
                "username": "swift", "password": "swiftpass", "delay_auth_decision": "True", "cache": "swift.cache",
                "include_service_catalog": "False"},
            "filter:keystoneauth": egg("keystoneauth", operator_roles="admin, member"),
            "filter:versioned_writes": egg("versioned_writes", allow_versioned_writes="true"),
            "filter:proxy-logging": egg("proxy_logging"),
            "filter:container-quotas": egg("container_quotas"),
            "filter:account-quotas": egg("account_quotas"),
            **{f"filter:{name}": egg(name) for name in
               ("catch_errors", "gatekeeper", "healthcheck", "listing_formats", "bulk", "copy", "slo", "dlo", "symlink")},
        })
    for n in range(1, nodes + 1):
        device = os.path.join(home, "srv", f"node{n}")
        cache = os.path.join(home, f"cache{n}")
        os.makedirs(os.path.join(device, f"d{n}"), exist_ok=True)
        os.makedirs(cache, exist_ok=True)
        for kind in ("object", "container", "account"):
            daemon = {"interval": 5, "recon_cache_path": cache}
            ini(f"{etc}/{kind}{n}.conf", {
                "DEFAULT": {**base, "bind_port": ports[f"{kind}{n}"], "devices": device, "mount_check": "false"},
                "pipeline:main": {"pipeline": f"healthcheck recon {kind}-server"},
                f"app:{kind}-server": egg(kind),
                "filter:healthcheck": egg("healthcheck"),
                "filter:recon": egg("recon", recon_cache_path=cache),
                # ssync moves objects without rsync.
                f"{kind}-replicator": {**daemon, **({"sync_method": "ssync"} if kind == "object" else {})},
                f"{kind}-updater": daemon,
                f"{kind}-auditor": {"recon_cache_path": cache},
            })
    check_xattrs(home)
    return ports, nodes


def check_xattrs(home):
    probe = os.path.join(home, "srv", ".probe")
    with open(probe, "w"):
        pass
    try:
        os.setxattr(probe, "user.swift.metadata", b"x" * 3000)
    except OSError:
        sys.exit(f"{home}: no user xattrs there, which Swift needs; choose a folder on ext4 or xfs")
    finally:
        os.unlink(probe)


# ---- the process that forks every server (runs under the interpreter that has Swift) ------------------------------


class Cluster:
    def __init__(self, home, o, ports, nodes):
        self.home, self.o, self.ports, self.nodes = home, o, ports, nodes
        self.etc = os.path.join(home, "etc")
        self.pids, self.skew, self.still = {}, -3600, None
        self.lock = threading.Lock()
        self.memcached = packages.program("memcached", "memcached")
        import swift.common.utils as utils
        utils.SWIFT_CONF_FILE = os.path.join(self.etc, "swift.conf")
        # Imported once, before any fork.
        import swift.common.wsgi, swift.proxy.server, swift.obj.server  # noqa: E401,F401
        import swift.container.server, swift.account.server  # noqa: E401,F401
        import pkg_resources, paste.deploy  # noqa: E401,F401
        for name in ("catch_errors gatekeeper healthcheck proxy_logging memcache listing_formats bulk ratelimit tempauth "
                     "keystoneauth copy container_quotas account_quotas slo dlo versioned_writes symlink recon").split():
            importlib.import_module(f"swift.common.middleware.{name}")
        self.build_rings()
        # eventlet walks all objects for each lock that it finds, 0.7 s per server. What is frozen it does not find; a
        # lock left alone is still held by the one thread that there is.
        gc.collect()
        gc.freeze()

    def build_rings(self):
        from swift.common.ring import RingBuilder
        for ring, kind in (("object", "object"), ("container", "container"), ("account", "account")):
            builder = RingBuilder(6, self.o.replicas, 0)
            for n in range(1, self.nodes + 1):
                port = self.ports[f"{kind}{n}"]
                builder.add_dev({"id": n - 1, "region": 1, "zone": n, "ip": HOST, "port": port, "replication_ip": HOST,
                                 "replication_port": port, "device": f"d{n}", "weight": 100.0, "meta": ""})
            builder.rebalance(seed=1)
            builder.get_ring().save(os.path.join(self.etc, f"{ring}.ring.gz"))

    def names(self):
        return [n for n in self.ports if n != "late-proxy"]

    def alive(self, name):
        pid = self.pids.get(name)
        if pid is None:
            return False
        if os.waitpid(pid, os.WNOHANG)[0]:
            del self.pids[name]
            return False
        return True

    def fork(self, name, work):
        """A child with its own log and no ties to our pipes."""
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            # A server does not outlive the host, however that ends: PR_SET_PDEATHSIG.
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
            os.setsid()
            log = os.open(os.path.join(self.home, "log", f"{name}.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.closerange(3, 256)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            random.seed()
            status = work() or 0
        except SystemExit as e:
            status = e.code if isinstance(e.code, int) else 1
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def serve(self, name):
        conf = os.path.join(self.etc, f"{name}.conf")
        kind = name.rstrip("0123456789")
        if kind == "memcached":
            user = ["-u", "root"] if os.geteuid() == 0 else []
            os.execv(self.memcached, ["memcached", "-l", HOST, "-p", str(self.ports[name]), "-U", "0", "-m", "64", *user])
        from swift.common.wsgi import run_wsgi
        more = {}
        if kind == "late-proxy":
            kind, real, skew, still = "proxy", time.time, self.skew, self.still
            time.time = lambda: real() + skew if still is None else still
        if kind == "object":
            from swift.obj import server
            more["global_conf_callback"] = server.global_conf_callback
        return run_wsgi(conf, f"{kind}-server", verbose=True, **more)

    def start(self, names):
        fresh = [n for n in names if not self.alive(n)]
        for name in fresh:
            self.pids[name] = self.fork(name, lambda: self.serve(name))
        for name in fresh:
            self.wait_ready(name)

    def wait_ready(self, name):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if not self.alive(name):
                with open(os.path.join(self.home, "log", f"{name}.log")) as f:
                    raise RuntimeError(f"{name} died: {f.read()[-400:]}")
            try:
                with socket.create_connection((HOST, self.ports[name]), timeout=2) as s:
                    if name == "memcached":
                        return
                    s.sendall(b"GET /healthcheck HTTP/1.0\r\n\r\n")
                    if b"200 OK" in s.recv(100):
                        return
            except OSError:
                pass
            time.sleep(0.02)
        raise RuntimeError(f"{name} does not answer")

    def send(self, names, sig):
        for name in names:
            if self.alive(name):
                os.kill(self.pids[name], sig)

    def stop(self, names, sig=signal.SIGTERM):
        running = [n for n in names if self.alive(n)]
        self.send(running, signal.SIGCONT)
        self.send(running, sig)
        end = time.monotonic() + 10
        for name in running:
            while self.alive(name):
                if time.monotonic() > end:
                    os.kill(self.pids[name], signal.SIGKILL)
                time.sleep(0.01)

    def once(self, daemon, nodes):
        """One pass of a daemon on each node."""
        module, cls = {
            "object-replicator": ("swift.obj.replicator", "ObjectReplicator"),
            "object-updater": ("swift.obj.updater", "ObjectUpdater"),
            "container-updater": ("swift.container.updater", "ContainerUpdater"),
        }[daemon]

        def work(conf):
            import importlib
            from swift.common.daemon import run_daemon
            run_daemon(getattr(importlib.import_module(module), cls), conf, section_name=daemon, once=True, verbose=True)

        for n in nodes:
            conf = os.path.join(self.etc, f"{daemon.split('-')[0]}{n}.conf")
            pid = self.fork(f"once-{daemon}", lambda: work(conf))
            os.waitpid(pid, 0)

    def command(self, line):
        words = line.split()
        with self.lock:
            return self.obey(words[0], words[1:])

    def obey(self, verb, names):
        unknown = [n for n in names if n not in self.ports] if verb not in ("once", "skew", "still", "where") else []
        if unknown:
            raise RuntimeError(f"no server {' '.join(unknown)}")
        if verb == "start":
            self.start(names or self.names())
        elif verb == "stop":
            self.stop(names or self.names())
        elif verb == "kill":
            self.stop(names, signal.SIGKILL)
        elif verb == "restart":
            self.stop(names)
            self.start(names)
        elif verb == "pause":
            self.send(names, signal.SIGSTOP)
        elif verb == "cont":
            self.send(names, signal.SIGCONT)
        elif verb == "alive":
            return " ".join(n for n in names if self.alive(n))
        elif verb == "once":
            self.once(names[0], names[1:] or range(1, self.nodes + 1))
        elif verb == "skew":
            self.skew, self.still = float(names[0]), None
        elif verb == "still":
            self.still = round(time.time() + float(names[0]), 2)
            return f"{self.still:.2f}"
        elif verb == "where":
            from swift.common.ring import Ring
            ring = Ring(self.etc, ring_name="object")
            part, nodes = ring.get_nodes(*names)
            devices = [*nodes, *ring.get_more_nodes(part)]
            return " ".join(f"object{d['id'] + 1}" for d in devices)
        elif verb == "names":
            return " ".join(self.names())
        else:
            raise RuntimeError(f"no command {verb}")
        return ""

    def ready(self):
        url = f"http://{HOST}:{self.ports['proxy']}"
        answer = {"url": url, "dir": self.home, "ports": self.ports, "pid": os.getpid()}
        if not self.o.keystone:
            answer.update(auth_url=f"{url}/auth/v1.0", user="test:tester", key="testing")
            self.use(answer)
        return answer

    def use(self, answer):
        """Ready means: a PUT is answered 201."""
        import http.client
        end = time.monotonic() + 30
        while True:
            try:
                c = http.client.HTTPConnection(HOST, self.ports["proxy"], timeout=10)
                c.request("GET", "/auth/v1.0", headers={"X-Auth-User": answer["user"], "X-Auth-Key": answer["key"]})
                r = c.getresponse()
                r.read()
                token, storage = r.headers.get("X-Auth-Token"), r.headers.get("X-Storage-Url")
                if token:
                    answer["storage_url"] = storage
                    path = storage[len(answer["url"]):]
                    c.request("PUT", f"{path}/.ready", headers={"X-Auth-Token": token})
                    r = c.getresponse()
                    r.read()
                    if r.status in (201, 202):
                        return
            except OSError:
                pass
            if time.monotonic() > end:
                raise RuntimeError("Swift does not take a container")
            time.sleep(0.05)


def listen(cluster, path):
    """Commands from `swift_up.py ctl`, one connection each."""
    server = socket.socket(socket.AF_UNIX)
    if os.path.exists(path):
        os.unlink(path)
    server.bind(path)
    server.listen()

    def loop():
        while True:
            with server.accept()[0] as s, s.makefile("rw") as f:
                line = f.readline().strip()
                f.write(answer_to(cluster, line) + "\n")
                f.flush()
                if line == "quit":
                    os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=loop, daemon=True).start()


def answer_to(cluster, line):
    try:
        if line == "quit":
            return "ok"
        return f"ok {cluster.command(line)}".strip()
    except Exception as e:
        return f"error {e}".replace("\n", " ")


def host(home, o):
    """The body of `run`, under the interpreter that has Swift."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    os.makedirs(home, exist_ok=True)
    cluster, started = None, time.monotonic()
    try:
        for attempt in range(3):
            ports, nodes = configure(home, o)
            cluster = Cluster(home, o, ports, nodes)
            try:
                cluster.start(cluster.names())
                break
            except RuntimeError as e:
                # Somebody took one of the ports in between.
                cluster.stop(cluster.names(), signal.SIGKILL)
                if attempt == 2:
                    raise
                print(f"swift_up.py: {e}; once more on other ports", file=sys.stderr)
        answer = cluster.ready()
        answer["seconds"] = round(time.monotonic() - started, 2)
        listen(cluster, os.path.join(home, "control"))
        with open(os.path.join(home, "ready.json.new"), "w") as f:
            json.dump(answer, f)
        os.rename(f.name, os.path.join(home, "ready.json"))
        print(json.dumps(answer), flush=True)
        if o.detached:
            while True:
                signal.pause()
        for line in sys.stdin:
            if line.strip() == "quit":
                break
            if line.strip():
                print(answer_to(cluster, line.strip()), flush=True)
    finally:
        if cluster:
            cluster.stop([*cluster.names(), "late-proxy"], signal.SIGKILL)
        for name in ("ready.json", "control"):
            if os.path.exists(os.path.join(home, name)):
                os.unlink(os.path.join(home, name))
        if o.wipe:
            shutil.rmtree(home, ignore_errors=True)


# ---- the command line --------------------------------------------------------------------------------------------


def exec_host(home, o, argv):
    modules = ["swift.proxy", "swift.obj"] + (["keystonemiddleware"] if o.keystone else [])
    debian = ["python3-swift", "memcached"] + (["python3-keystonemiddleware"] if o.keystone else [])
    pip = ["swift"] + (["keystonemiddleware"] if o.keystone else [])
    python = packages.python_with(modules, debian, pip)
    os.environ["PYTHONWARNINGS"] = "ignore"
    os.execv(python, [python, os.path.abspath(__file__), "host", *argv])


def control(home, line):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(os.path.join(home, "control"))
        with s.makefile("rw") as f:
            f.write(line + "\n")
            f.flush()
            return f.readline().strip()


def start(home, argv):
    ready = os.path.join(home, "ready.json")
    try:
        control(home, "names")
        with open(ready) as f:
            print(f.read())
        return
    except OSError:
        # Not running; what a killed one left behind is not the truth.
        if os.path.exists(ready):
            os.unlink(ready)
    os.makedirs(home, exist_ok=True)
    with open(os.path.join(home, "host.log"), "ab") as log:
        command = [sys.executable, os.path.abspath(__file__), "run", *argv, "--detached"]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    while not os.path.exists(ready):
        if child.poll() is not None:
            with open(os.path.join(home, "host.log")) as f:
                sys.exit(f"Swift did not start: {f.read()[-2000:]}")
        time.sleep(0.05)
    with open(ready) as f:
        print(f.read())


def stop(home, wipe):
    try:
        with open(os.path.join(home, "ready.json")) as f:
            pid = json.load(f)["pid"]
        control(home, "quit")
        while os.path.exists(f"/proc/{pid}") and os.path.exists(os.path.join(home, "ready.json")):
            time.sleep(0.02)
    except OSError:
        pass
    if wipe:
        shutil.rmtree(home, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("run", "host", "start"):
        p = verbs.add_parser(verb)
        p.add_argument("dir")
        p.add_argument("--detached", action="store_true", help=argparse.SUPPRESS)
        options(p)
    p = verbs.add_parser("ctl")
    p.add_argument("dir")
    p.add_argument("command", nargs="+")
    p = verbs.add_parser("stop")
    p.add_argument("dir")
    p.add_argument("--wipe", action="store_true")
    o = parser.parse_args()
    home, argv = os.path.abspath(o.dir), sys.argv[2:]
    if o.verb == "run":
        exec_host(home, o, argv)
    elif o.verb == "host":
        host(home, o)
    elif o.verb == "start":
        start(home, argv)
    elif o.verb == "stop":
        stop(home, o.wipe)
    else:
        answer = control(home, " ".join(o.command))
        print(answer)
        sys.exit(not answer.startswith("ok"))


if __name__ == "__main__":
    main()
