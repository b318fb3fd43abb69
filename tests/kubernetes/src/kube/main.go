// SPDX-License-Identifier: Apache-2.0
// One binary for the whole of Kubernetes: the name it is called by says which part it is.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	code := 0
	switch name := filepath.Base(os.Args[0]); name {
	case "kube-apiserver":
		code = cli.Run(apiserver.NewAPIServerCommand())
	case "kube-controller-manager":
		code = cli.Run(manager.NewControllerManagerCommand())
	case "kube-scheduler":
		code = cli.Run(scheduler.NewSchedulerCommand())
	case "kube-proxy":
		code = cli.Run(proxy.NewProxyCommand())
	case "kubelet":
		code = cli.Run(kubelet.NewKubeletCommand(context.Background()))
	case "etcd":
		etcdmain.Main(os.Args)
	case "kubectl":
		if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
			util.CheckErr(err)
		}
	default:
		fmt.Fprintf(os.Stderr, "%s: call me kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy, kubelet, kubectl or etcd\n", name)
		code = 64
	}
	os.Exit(code)
}
