#!/usr/bin/env python3
"""A TLS front on a free port of 127.0.0.1 for a plain server there: what a load balancer is to a production Swift.

    tls_relay.py run DIR PORT

Makes an authority of its own and a certificate for 127.0.0.1 in DIR, prints one line of JSON when it listens, relays
every connection to PORT, and ends with its standard input. Needs the openssl command.
"""
import json
import os
import socket
import ssl
import subprocess
import sys
import threading

HOST = "127.0.0.1"


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def certificates(home):
    path = lambda name: os.path.join(home, name)
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    openssl(*new, "-subj", "/CN=martlet's test authority", "-keyout", path("ca.key"), "-out", path("ca.pem"))
    openssl(*new, "-subj", "/CN=swift", "-CA", path("ca.pem"), "-CAkey", path("ca.key"),
            "-addext", "basicConstraints=critical,CA:FALSE", "-addext", f"subjectAltName=IP:{HOST}",
            "-keyout", path("server.key"), "-out", path("server.pem"))
    return path


def pump(source, sink):
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def relay(context, plain, port):
    try:
        # The handshake fails when the client does not trust us: its own business.
        secure = context.wrap_socket(plain, server_side=True)
        upstream = socket.create_connection((HOST, port))
    except OSError:
        plain.close()
        return
    back = threading.Thread(target=pump, args=(upstream, secure), daemon=True)
    back.start()
    pump(secure, upstream)
    back.join()
    secure.close()
    upstream.close()


def main():
    _, _, home, port = sys.argv
    os.makedirs(home, exist_ok=True)
    path = certificates(home)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path("server.pem"), path("server.key"))
    listener = socket.create_server((HOST, 0), backlog=128)

    def accept():
        while True:
            plain, _ = listener.accept()
            threading.Thread(target=relay, args=(context, plain, int(port)), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    url = f"https://{HOST}:{listener.getsockname()[1]}"
    print(json.dumps({"url": url, "ca": path("ca.pem")}), flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
