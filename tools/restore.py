#!/usr/bin/env python3
"""Restores a volume or snapshot from a martlet store to a raw image, with docs/format.md and the standard library alone.

Reads only. Every header's CRC-32 and every grain's CRC32C is checked: damaged, missing or lost data is an error, never zeros.

    restore.py STORE NAME[@SNAPSHOT] OUTPUT        NAME or NAME.ID; without a snapshot the newest version

STORE is dir:PATH or swift:PREFIX. Swift is reached with OS_STORAGE_URL and OS_AUTH_TOKEN, or with ST_AUTH (…/auth/v1.0),
ST_USER and ST_KEY.

Exit codes: 0 done, 2 usage, 3 not found, 5 store not reachable, 6 ambiguous name, 8 damaged data.
"""

import http.client
import os
import struct
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections import defaultdict, namedtuple

GRAIN, FRAME_HEADER, ENVELOPE = 4096, 128, 32
DATA, PART, HOLE, LOST = 1, 2, 3, 4
RootName = namedtuple("RootName", "version generation nonce")
Object = namedtuple("Object", "container serial version first last generation nonce")
Layer = namedtuple("Layer", "kind version object offset grains masks")
LeafRef = namedtuple("LeafRef", "container home offset length")


class Failed(Exception):
    """An exit code and a text."""


def crc32c_of_byte(crc):
    for _ in range(8):
        crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc


TABLES = [bytes(crc32c_of_byte(byte) >> shift & 0xFF for byte in range(256)) for shift in (0, 8, 16, 24)]


def crc32c_many(data, size):
    """The CRC32C of each `size` bytes of `data`. All advance together, a column at a time: 100 times faster than one by one."""
    count = len(data) // size

    def xor(a, b):
        both = int.from_bytes(a, "little") ^ int.from_bytes(b, "little")
        return both.to_bytes(count, "little")

    state = [b"\xff" * count] * 4
    for column in range(size):
        index = xor(state[0], data[column::size])
        looked_up = [index.translate(table) for table in TABLES]
        state = [xor(state[n + 1], looked_up[n]) for n in range(3)] + [looked_up[3]]
    return [~(a | b << 8 | c << 16 | d << 24) & 0xFFFFFFFF for a, b, c, d in zip(*state)]


class Fields:
    """Reads what lies behind a checked envelope."""

    def __init__(self, data, magic, what):
        self.data, self.at, self.what = data, ENVELOPE, what
        if data[:8] != magic:
            raise Failed(8, f"{what}: not a {magic.decode()}")
        major, _, length = struct.unpack_from("<HHI", data, 8)
        _, _, incompatible, checksum = struct.unpack_from("<IIII", data, 16)
        if length < ENVELOPE or length != len(data):
            raise Failed(8, f"{what}: has {len(data)} bytes and says {length}")
        if zlib.crc32(data[ENVELOPE:length], zlib.crc32(data[:28])) != checksum:
            raise Failed(8, f"{what}: checksum differs")
        if major != 1 or incompatible:
            raise Failed(8, f"{what}: format is newer than this program")

    def take(self, count):
        self.at += count
        if self.at > len(self.data):
            raise Failed(8, f"{self.what}: ends too early")
        return self.data[self.at - count : self.at]

    def unpack(self, form):
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))

    def text(self):
        text = self.take(self.unpack("B")[0]).decode()
        self.pad()
        return text

    def pad(self):
        self.take(-self.at % 8)

    def container(self):
        volume_id = self.take(16).hex()
        return f"{self.text()}.{volume_id}"

    def root_name(self):
        return RootName(*self.unpack("QQQ"))


class Directory:
    def __init__(self, path):
        self.path = path
        if not os.path.isdir(path):
            raise Failed(5, f"{path} is not a directory")

    def containers(self):
        return [name for name in os.listdir(self.path) if os.path.isdir(os.path.join(self.path, name))]

    def names(self, container, folder):
        found = os.walk(os.path.join(self.path, container, folder))
        return [f"{folder}/{name}" for _, _, names in found for name in names if name[0] != "."]

    def get(self, container, name, span=None):
        try:
            with open(os.path.join(self.path, container, name), "rb") as file:
                file.seek(span[0] if span else 0)
                return file.read(span[1] - span[0] if span else -1)
        except (FileNotFoundError, NotADirectoryError):
            return None


class Swift:
    def __init__(self, prefix):
        self.prefix = prefix
        self.url, self.token = os.environ.get("OS_STORAGE_URL"), os.environ.get("OS_AUTH_TOKEN")
        if not (self.url and self.token):
            try:
                who = {"X-Auth-User": os.environ["ST_USER"], "X-Auth-Key": os.environ["ST_KEY"]}
                _, headers = self.ask(os.environ["ST_AUTH"], who) or (None, {})
                self.url, self.token = headers["X-Storage-Url"], headers["X-Auth-Token"]
            except KeyError as error:
                raise Failed(5, f"no {error.args[0]}, and no OS_STORAGE_URL and OS_AUTH_TOKEN") from error

    def ask(self, url, headers):
        """Body and headers; None for a 404."""
        for attempt in range(5):
            time.sleep(min(2**attempt, 10) if attempt else 0)
            try:
                with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
                    return answer.read(), answer.headers
            except urllib.error.HTTPError as error:
                if error.code in (404, 416):  # Absent; or it ends before the range.
                    return None if error.code == 404 else (b"", {})
                failure = error
                if error.code in (401, 403):
                    break
            except (OSError, http.client.HTTPException) as error:
                failure = error
        raise Failed(5, f"{url}: {failure}")

    def fetch(self, path, headers=()):
        found = self.ask(self.url.rstrip("/") + path, {"X-Auth-Token": self.token, **dict(headers)})
        return found and found[0]

    def listing(self, path, prefix, marker=""):
        query = urllib.parse.urlencode({"prefix": prefix, "marker": marker})
        page = (self.fetch(f"{path}?{query}") or b"").decode().split()
        return page and page + self.listing(path, prefix, page[-1])

    def containers(self):
        return [name[len(self.prefix) :] for name in self.listing("", self.prefix)]

    def names(self, container, folder):
        return self.listing("/" + urllib.parse.quote(self.prefix + container), folder + "/")

    def get(self, container, name, span=None):
        headers = {"X-Newest": "true"}
        if span:
            headers["Range"] = f"bytes={span[0]}-{span[1] - 1}"
        return self.fetch("/" + urllib.parse.quote(f"{self.prefix}{container}/{name}"), headers)


def must(store, container, name, span=None):
    data = store.get(container, name, span)
    if data is None:
        raise Failed(8, f"{container}/{name}: missing")
    if span and len(data) != span[1] - span[0]:
        raise Failed(8, f"{container}/{name}: ends before byte {span[1]}")
    return data


def root_path(name):
    return "versions/{:08x}.{:08x}-{:016x}".format(*name)


class Root:
    def __init__(self, store, container, name):
        what = f"{container}/{root_path(name)}"
        fields = Fields(must(store, container, root_path(name)), b"mlt:root", what)
        self.block, self.chunk_grains, _, self.frame_grains, blocks = fields.unpack("IIIIQ")
        self.bytes = blocks * self.block
        self.name = fields.root_name()
        _, _, _, kind, has_parent, _ = fields.unpack("QQQBB6s")
        self.is_deleted = kind == 4
        snapshots, pins, dying, attributes, losses, containers, homes, runs, leaves, _ = fields.unpack("10I")
        if fields.container() != container or self.name != name:
            raise Failed(8, f"{what}: belongs elsewhere")
        fields.take(40 if has_parent else 0)
        self.snapshots = {}
        for _ in range(snapshots):
            root, _ = fields.root_name(), fields.unpack("QQQ")
            self.snapshots[fields.text()] = root
        for _ in range(pins):
            fields.root_name(), fields.container()
        fields.take(32 * dying)
        for _ in range(attributes):
            (length, _), _ = fields.unpack("II"), fields.text()
            fields.take(length), fields.pad()
        for _ in range(losses):
            fields.take(32), fields.text()
        known = [container] + [fields.container() for _ in range(containers)]
        places = []
        for _ in range(homes):
            where, kind = fields.unpack("II")
            name, (serial, _) = fields.root_name(), fields.unpack("II")
            packed = "tables/{:08x}/{:08x}-{:016x}.{:08x}".format(*name, serial)
            places.append((known[where], packed if kind else root_path(name)))
        spans = [fields.unpack("QQ") for _ in range(runs)]
        indexes = (index for first, count in spans for index in range(first, first + count))
        self.leaves = {}
        for _, index in zip(range(leaves), indexes):
            home, offset, length, _ = fields.unpack("IIII")
            fields.take(16)  # BLAKE3, which the standard library lacks; the leaf's own CRC-32 is checked.
            self.leaves[index] = LeafRef(*places[home], offset, length)


def newest_root(store, container):
    """The newest root of the highest opened generation, or else the root that it goes on from."""
    opened = [int(name.split("/")[1], 16) for name in store.names(container, "opened")]
    generation = max(opened, default=0)
    while store.get(container, f"opened/{generation + 1:08x}") is not None:  # A listing may lag behind.
        generation += 1
    if generation == 0:
        raise Failed(3, f"{container}: not born yet")
    fields = Fields(must(store, container, f"opened/{generation:08x}"), b"mlt:tokn", f"opened/{generation:08x}")
    attach = fields.unpack("QQ")
    if attach[0] != generation:
        raise Failed(8, f"{container}/opened/{generation:08x}: belongs elsewhere")
    _, _, has_base, _ = fields.unpack("QQB7s")
    base = fields.root_name() if has_base else None
    own = "{:08x}-{:016x}".format(*attach)
    names = [name.split("/")[1].split(".") for name in store.names(container, "versions")]
    versions = [int(version, 16) for version, who in names if who == own]
    version = max(versions, default=base.version if base else -1)
    while store.get(container, root_path(RootName(version + 1, *attach))) is not None:
        version += 1
        versions.append(version)
    name = RootName(version, *attach) if versions else base
    if name is None:
        raise Failed(3, f"{container}: not born yet")
    return Root(store, container, name)


def read_leaf(data, what, index):
    """Layers of each chunk, newest first."""
    fields = Fields(data, b"mlt:leaf", what)
    found, first, containers, objects, entries, _ = fields.unpack("QQIIII")
    if found != index:
        raise Failed(8, f"{what}: belongs elsewhere")
    containers = [fields.container() for _ in range(containers)]
    names = [Object(*fields.unpack("IIQQQQQ")) for _ in range(objects)]
    names = [name._replace(container=containers[name.container]) for name in names]
    leaf = {}
    for _ in range(entries):
        offset, layers, _ = fields.unpack("HHI")
        leaf[first + offset] = [read_layer(fields, names) for _ in range(layers)]
    return leaf


def read_layer(fields, names):
    kind, form, count, version, number, offset = fields.unpack("BBHIII")
    if form == 0:
        grains = [first + n for first, length in (fields.unpack("HH") for _ in range(count)) for n in range(length)]
    else:
        bitmap = fields.take(count)
        grains = [grain for grain in range(8 * count) if bitmap[grain // 8] >> grain % 8 & 1]
    masks = fields.take(len(grains)) if kind in (PART, LOST) else None
    fields.pad()
    return Layer(kind, version, names[number] if kind in (DATA, PART) else None, offset, grains, masks)


def resolve(layers, whole):
    """For each layer with a section: grain -> mask of the blocks that it gives. And: grain -> mask of lost blocks."""
    wanted, lost, done = [{} for _ in layers], {}, defaultdict(int)
    for number, layer in enumerate(layers):
        for rank, grain in enumerate(layer.grains):
            mask = (layer.masks[rank] if layer.masks is not None else whole) & ~done[grain] & whole
            done[grain] |= mask
            if mask and layer.kind == LOST:
                lost[grain] = lost.get(grain, 0) | mask
            elif mask and layer.kind != HOLE:
                wanted[number][grain] = mask
    return wanted, lost


def read_frames(store, root, chunk, layer, grains):
    """The bytes of these grains, each checked."""
    name, size = layer.object, root.frame_grains
    path = "chunks/{2:08x}/{3:08x}-{4:08x}.{5:08x}-{6:016x}.{1:08x}".format(*name)
    what, volume = f"{name.container}/{path}", bytes.fromhex(name.container.rsplit(".", 1)[1])
    ranks = {grain: rank for rank, grain in enumerate(layer.grains)}
    frames = sorted({ranks[grain] // size for grain in grains})
    stride = FRAME_HEADER + size * GRAIN
    held, sums, data = [], [], []
    while frames:
        first = last = frames.pop(0)
        while frames and frames[0] == last + 1 and (last - first) * stride < 8 << 20:
            last = frames.pop(0)
        here = layer.grains[first * size : (last + 1) * size]
        start = layer.offset + first * stride
        length = (last + 1 - first) * FRAME_HEADER + len(here) * GRAIN
        span, at = must(store, name.container, path, (start, start + length)), 0
        for frame in range(first, last + 1):
            here = layer.grains[frame * size : (frame + 1) * size]
            header, at = span[at : at + FRAME_HEADER], at + FRAME_HEADER
            fields = Fields(header, b"mlt:fram", f"{what} frame {frame} of chunk {chunk}")
            if fields.unpack("QQQIHH") != (name.generation, name.nonce, chunk, name.serial, frame, len(here)):
                raise Failed(8, f"{fields.what}: belongs elsewhere")
            held += here
            sums += fields.unpack(f"{len(here)}I")
            data.append(span[at : at + len(here) * GRAIN])
            at += len(here) * GRAIN
    data = b"".join(data)
    first_grain = chunk * root.chunk_grains
    places = b"".join(volume + struct.pack("<Q", first_grain + grain) for grain in held)
    for grain, stored, plain, place in zip(held, sums, crc32c_many(data, GRAIN), crc32c_many(places, 24)):
        if stored != plain ^ place:
            raise Failed(8, f"{what}: grain {first_grain + grain} has another checksum")
    return {grain: data[n * GRAIN : (n + 1) * GRAIN] for n, grain in enumerate(held)}


def read_chunk(store, root, chunk, layers):
    """The grains of a chunk that are not holes: (grain, bytes)."""
    blocks, first, content = GRAIN // root.block, chunk * root.chunk_grains, {}
    wanted, lost = resolve(layers, (1 << blocks) - 1)
    for grain, mask in sorted(lost.items()):
        block = (first + grain) * blocks + (mask & -mask).bit_length() - 1
        if block * root.block < root.bytes:
            raise Failed(8, f"block {block} was lost before this version was made")
    for layer, grains in zip(layers, wanted):
        found = read_frames(store, root, chunk, layer, grains) if grains else {}
        for grain, mask in grains.items():
            whole = content.setdefault(grain, bytearray(GRAIN))
            for at in range(0, GRAIN, root.block):
                if mask >> at // root.block & 1:
                    whole[at : at + root.block] = found[grain][at : at + root.block]
    return sorted(content.items())


def restore(store, container, snapshot, output):
    root = newest_root(store, container)
    if root.is_deleted:
        raise Failed(3, f"{container}: is being deleted")
    if snapshot:
        if snapshot not in root.snapshots:
            raise Failed(3, f"{container} has no snapshot {snapshot}; it has: {', '.join(root.snapshots) or 'none'}")
        root = Root(store, container, root.snapshots[snapshot])
    written = 0
    with open(output, "wb") as file:
        file.truncate(root.bytes)
        for number, (index, ref) in enumerate(root.leaves.items()):
            data = must(store, ref.container, ref.home, (ref.offset, ref.offset + ref.length))
            leaf = read_leaf(data, f"{ref.container}/{ref.home} leaf {index}", index)
            for chunk, layers in leaf.items():
                for grain, data in read_chunk(store, root, chunk, layers):
                    at = (chunk * root.chunk_grains + grain) * GRAIN
                    file.seek(at)
                    written += file.write(data[: max(root.bytes - at, 0)])
            print(f"leaf {number + 1} of {len(root.leaves)}, {written >> 20} MiB", file=sys.stderr)
    print(f"{output}: version {root.name.version}, {root.bytes} bytes, {written} of them not holes")


def find(store, name):
    known = sorted(store.containers())
    found = [container for container in known if name in (container, container.rsplit(".", 1)[0])]
    if len(found) != 1:
        raise Failed(6 if found else 3, f"{len(found)} volumes are {name}; there are: {', '.join(known)}")
    return found[0]


def main(arguments):
    if len(arguments) != 3 or not arguments[0].startswith(("dir:", "swift:")):
        raise Failed(2, __doc__)
    kind, _, where = arguments[0].partition(":")
    store = Directory(where) if kind == "dir" else Swift(where)
    name, _, snapshot = arguments[1].partition("@")
    restore(store, find(store, name), snapshot, arguments[2])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as failure:
        sys.exit(f"error: {failure}")
    except Failed as failure:
        print("error:", failure.args[1], file=sys.stderr)
        sys.exit(failure.args[0])
