#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Fills the folder $1 with a real Kubernetes: pinned Go modules, Debian's network plugins, images made by hand.
#
#     tests/kubernetes/build.sh FOLDER
#
# Root, Debian 12, Go >= 1.26.6. Does only what is missing and says the seconds of each step: about 12 minutes on two
# processors from nothing, 0.1 s when all is there. Whoever comes second waits for the first. The last line says what
# is missing if it fails, and the exit status is 1.
set -euo pipefail
kubernetes=1.37.2 etcd=3.7.3 coredns=1.15.0 containerd=2.4.2 runc=1.3.3

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"/{bin,src,images}
target=$(cd "$1" && pwd)
PATH=$PATH:/usr/local/go/bin
export CGO_ENABLED=0 GOFLAGS="-buildvcs=false -trimpath -mod=mod -pgo=off" GOTOOLCHAIN=local DEBIAN_FRONTEND=noninteractive
version=k8s.io/component-base/version

step() {
        local label=$1 began=$SECONDS
        shift
        "$@" || { echo "tests/kubernetes/build.sh: $label: failed" >&2; exit 1; }
        printf '%5d s  %s\n' $((SECONDS - began)) "$label"
}

# k8s.io/kubernetes asks for its staging modules at v0.0.0: each is replaced by the published twin of the same release.
kubernetes_module() {
        local minor=${kubernetes#*.} said mod module
        rm -rf "$target/src/kube"
        cp -r "$here/src/kube" "$target/src/kube"
        cd "$target/src/kube"
        printf 'module kube\n\ngo 1.26.0\n\nrequire (\n\tk8s.io/kubernetes v%s\n\tgo.etcd.io/etcd/server/v3 v%s\n)\n' \
                $kubernetes $etcd >go.mod
        said=$(go mod download -json "k8s.io/kubernetes@v$kubernetes")
        mod=$(sed -n 's/.*"GoMod": "\(.*\)".*/\1/p' <<<"$said")
        if [ -z "$mod" ]; then
                sed -n 's/.*"Error": "\(.*\)".*/\1/p' <<<"$said" >&2
                return 1
        fi
        awk '/^replace \(/,/^\)/ { if ($2 == "=>") print $1 }' "$mod" | while read -r module; do
                echo "replace $module => $module v0.$minor"
        done >>go.mod
        go list -deps -f '{{if 0}}{{end}}' . >/dev/null
}

# In parts, so that each says its time and what was compiled before an interruption is kept.
kube() {
        local minor=${kubernetes#*.} part
        step "modules of kubernetes $kubernetes" kubernetes_module
        cd "$target/src/kube"
        for part in k8s.io/client-go/kubernetes k8s.io/apiserver/pkg/server/options k8s.io/kubectl/pkg/cmd \
                go.etcd.io/etcd/server/v3/etcdmain \
                k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kube-proxy,kubelet}/app; do
                step "$part" go build "$part"
        done
        step "link kubernetes $kubernetes and etcd $etcd" go build \
                -ldflags "-s -w -X $version.gitVersion=v$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=${minor%.*}" \
                -o "$target/bin/kube-$kubernetes" .
        for part in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl etcd; do
                ln -sfn "kube-$kubernetes" "$target/bin/$part"
        done
}

coredns() {
        rm -rf "$target/src/coredns"
        cp -r "$here/src/coredns" "$target/src/coredns"
        cd "$target/src/coredns"
        printf 'module dns\n\ngo 1.26.0\n\nrequire (\n\tgithub.com/coredns/coredns v%s\n\tk8s.io/client-go v0.%s\n)\n' \
                $coredns "${kubernetes#*.}" >go.mod
        step "coredns $coredns" go build -ldflags "-s -w" -o "$target/bin/coredns-$coredns" .
        ln -sfn "coredns-$coredns" "$target/bin/coredns"
}

containerd() {
        local part
        mkdir -p "$target/src/containerd"
        cd "$target/src/containerd"
        printf 'module node\n\ngo 1.26.6\n\nrequire github.com/containerd/containerd/v2 v%s\n' $containerd >go.mod
        for part in containerd-shim-runc-v2 ctr containerd; do
                step "$part $containerd" go build \
                        -ldflags "-s -w -X github.com/containerd/containerd/v2/version.Version=$containerd" \
                        -o "$target/bin/$part-$containerd" "github.com/containerd/containerd/v2/cmd/$part"
                ln -sfn "$part-$containerd" "$target/bin/$part"
        done
}

# Debian's is too old for user namespaces (hostUsers: false).
runc() {
        mkdir -p "$target/src/runc"
        cd "$target/src/runc"
        printf 'module node\n\ngo 1.24.0\n\nrequire github.com/opencontainers/runc v%s\n' $runc >go.mod
        step "runc $runc" env CGO_ENABLED=1 go build -tags seccomp -ldflags "-s -w" -o "$target/bin/runc-$runc" \
                github.com/opencontainers/runc
        ln -sfn "runc-$runc" "$target/bin/runc"
}

# Few programs of this machine, so they are packed anew each time: nothing to keep in step with.
pictures() {
        [ -x "$target/images/pause" ] || (cd "$here/src/pause" && go build -ldflags "-s -w" -o "$target/images/pause" main.go)
        python3 "$here/images.py" "$target/images"
}

if ! command -v go >/dev/null; then
        echo "tests/kubernetes/build.sh: Go 1.26.6 or newer is missing: install golang-go, or unpack it to /usr/local/go" >&2
        exit 1
fi
exec 9>"$target/.lock"
flock 9
step packages "$here/../../tools/install-dependencies" test-kubernetes
if ! [ -x "$target/bin/kube-$kubernetes" ] || ! [ -e "$target/bin/etcd" ]; then
        kube
fi
[ -x "$target/bin/coredns-$coredns" ] || coredns
[ -x "$target/bin/containerd-$containerd" ] || containerd
[ -x "$target/bin/runc-$runc" ] && [ -e "$target/bin/runc" ] || runc
step images pictures
