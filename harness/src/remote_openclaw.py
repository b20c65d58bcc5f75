"""Runs a command inside a new network namespace, in which this script is started. A relay connects clients of a Unix socket to port
18789 of the namespace, from 10.99.0.1, which is not the namespace's loopback address."""

import fcntl
import socket
import struct
import subprocess
import sys
import threading

ADDRESS = "10.99.0.1"
PORT = 18789
# From <linux/sockios.h>.
SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFADDR, IFF_UP = 0x8913, 0x8914, 0x8916, 1


def bring_up(name, address=None):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        if address:
            request = struct.pack("16sH2s4s8s", name, socket.AF_INET, bytes(2), socket.inet_aton(address), bytes(8))
            fcntl.ioctl(control, SIOCSIFADDR, request)
        answer = fcntl.ioctl(control, SIOCGIFFLAGS, struct.pack("16sh", name, 0))
        flags = struct.unpack("16sh", answer)[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh", name, flags | IFF_UP))


def copy(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass  # The other direction ends too.
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # The socket was already closed.


def relay(client):
    server = socket.socket()
    try:
        server.connect((ADDRESS, PORT))
    except OSError:
        client.close()
        return
    threading.Thread(target=copy, args=(client, server), daemon=True).start()
    copy(server, client)


def accept(listener):
    while True:
        client, _ = listener.accept()
        threading.Thread(target=relay, args=(client,), daemon=True).start()


bring_up(b"lo")
bring_up(b"lo:1", ADDRESS)
sock = socket.socket(socket.AF_UNIX)
sock.bind(sys.argv[1])
sock.listen()
threading.Thread(target=accept, args=(sock,), daemon=True).start()
sys.exit(subprocess.Popen(sys.argv[2:]).wait())
