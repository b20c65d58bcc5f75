//go:build tools

// Package oldest pins the commands of the oldest Kubernetes that Muster supports.
package oldest

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
)
