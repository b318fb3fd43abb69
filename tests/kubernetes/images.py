# SPDX-License-Identifier: Apache-2.0
"""Container images without a registry: a file system out of this machine's own programs, as an archive that `ctr import` takes.

    images.py FOLDER        the layer of tools and the image of the pause container, for cluster.py
"""
import hashlib
import io
import json
import pathlib
import re
import subprocess
import sys
import tarfile

# Names under which the image of tools is known to the cluster: those that Istio's samples have used for curl.
NAMES = ["docker.io/lab/tools:1", "docker.io/tutum/curl:latest", "docker.io/governmentpaas/curl-ssl:latest",
         "docker.io/curlimages/curl:latest"]
PROGRAMS = ["bash", "curl", "nft", "ip", "openssl", "getent", "setpriv"]
APPLETS = ("sh ls cat cp mv rm mkdir ln id env echo printf sleep true false test kill ps grep sed awk head tail wc tr cut sort nc "
           "nslookup ping ping6 traceroute wget ifconfig route netstat date mount umount hostname tee dd vi find xargs seq timeout "
           "nohup whoami uname tar gzip touch chmod stat httpd").split()
ETC = {"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
       "etc/group": "root:x:0:\nnobody:x:65534:\n", "etc/nsswitch.conf": "hosts: files dns\n", "etc/hosts": "127.0.0.1 localhost\n"}
LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
FOLDERS = ["tmp", "root", "proc", "sys", "dev", "run", "var", "var/run"]


def closure(programs):
    """The programs' files and every library they load."""
    found = set()
    for program in programs:
        path = subprocess.run(["which", program], text=True, capture_output=True, check=True).stdout.strip()
        needs = subprocess.run(["ldd", path], text=True, capture_output=True, check=False).stdout
        found |= {path} | set(re.findall(r"(/\S+) \(0x", needs))
    return sorted(found)


def add(tar, name, data=None, mode=0o644, link=None):
    """One entry: a link, a file with data, or a folder."""
    entry = tarfile.TarInfo(name)
    entry.mode = mode
    if link:
        entry.type, entry.linkname = tarfile.SYMTYPE, link
    elif data is None:
        entry.type = tarfile.DIRTYPE
    else:
        entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data) if data is not None else None)


def layer(files=(), texts=None, folders=(), links=None):
    """The bytes of one layer. A file is a path of this machine, or a pair of it and the path in the image."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, target in (links or {}).items():
            add(tar, name, link=target)
        for name in folders:
            add(tar, name, mode=0o1777 if name == "tmp" else 0o755)
        for name, text in (texts or {}).items():
            add(tar, name, text.encode() if isinstance(text, str) else text)
        for pair in files:
            source, target = pair if isinstance(pair, tuple) else (pair, str(pair))
            real = pathlib.Path(source).resolve()
            # Debian's /bin is a link: what is unpacked through one twice would replace it.
            target = re.sub(r"^/?(bin|sbin|lib|lib64)/", r"usr/\1/", str(target).lstrip("/"))
            add(tar, target, real.read_bytes(), real.stat().st_mode & 0o777)
    return buffer.getvalue()


def tools():
    """busybox, bash, curl, nft, ip, openssl, setpriv with their libraries, and Debian's CA certificates."""
    busybox = {"usr/bin/" + applet: "busybox" for applet in APPLETS}
    return layer([*closure(PROGRAMS), "/bin/busybox", "/etc/ssl/certs/ca-certificates.crt"], ETC, FOLDERS, {**LINKS, **busybox})


def pack(path, names, layers, cmd=None, entrypoint=None, user="", env=()):
    """Writes the archive `path`: an image of the layers under each of the names."""
    def digest(data):
        return hashlib.sha256(data).hexdigest()
    config = json.dumps({
        "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest(data) for data in layers]},
        "config": {"Cmd": cmd, "Entrypoint": entrypoint, "User": user,
                   "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *env]}}).encode()
    manifest = [{"Config": digest(config) + ".json", "RepoTags": names, "Layers": [digest(data) + ".tar" for data in layers]}]
    with tarfile.open(path, "w") as tar:
        for name, data in {digest(data): data for data in layers}.items():
            add(tar, name + ".tar", data)
        add(tar, digest(config) + ".json", config)
        add(tar, "manifest.json", json.dumps(manifest).encode())


def main():
    folder = pathlib.Path(sys.argv[1])
    (folder / "tools.layer.tmp").write_bytes(tools())
    (folder / "tools.layer.tmp").rename(folder / "tools.layer")
    pack(folder / "pause.tmp", ["docker.io/lab/pause:1"], [layer([(folder / "pause", "pause")])], entrypoint=["/pause"],
         user="65535:65535")
    (folder / "pause.tmp").rename(folder / "pause.tar")


if __name__ == "__main__":
    main()
