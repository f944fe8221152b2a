package main

import (
	"context"
	_ "embed"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"
)

//go:embed kwok.yaml
var kwokConfiguration string

const (
	auditPolicy = `{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived", "ResponseStarted"],
"rules": [{"level": "Metadata"}]}`
	// Clients of the control plane itself are not to be what is measured.
	clientRate = "5000"
)

// plane is one control plane in one folder.
type plane struct {
	set      settings
	dir      string
	server   string
	admin    *client
	programs []*program
	ended    chan *program
}

func (p *plane) file(name string) string { return filepath.Join(p.dir, name) }

func (p *plane) start(ctx context.Context) error {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	p.server = "https://127.0.0.1:" + ports[1]
	token, err := p.writeCredentials()
	if err != nil {
		return err
	}
	if p.admin, err = newClient(p.server, p.file("ca.crt"), token); err != nil {
		return err
	}
	if err := p.startEtcd(ctx, ports[0], ports[2]); err != nil {
		return err
	}
	if err := p.startServer(ctx, ports[0], ports[1]); err != nil {
		return err
	}
	if p.set.controllerManager {
		if err := p.startControllerManager(ctx); err != nil {
			return err
		}
	}
	if p.set.scheduler {
		if err := p.spawn("kube-scheduler", p.controlArguments("kube-scheduler")...); err != nil {
			return err
		}
	}
	if p.set.nodes > 0 {
		return p.startNodes(ctx)
	}
	return nil
}

func (p *plane) startEtcd(ctx context.Context, port, peerPort string) error {
	address, peer := "http://127.0.0.1:"+port, "http://127.0.0.1:"+peerPort
	arguments := []string{
		"--data-dir=" + p.file("etcd"), "--log-level=warn", "--quota-backend-bytes=4294967296",
		"--listen-client-urls=" + address, "--advertise-client-urls=" + address,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=default=" + peer,
	}
	if p.set.noFsync {
		arguments = append(arguments, "--unsafe-no-fsync")
	}
	if err := p.spawn("etcd", arguments...); err != nil {
		return err
	}
	plain := &client{address: address}
	return p.wait(ctx, "etcd", func() error { return plain.get("/health", nil) })
}

func (p *plane) startServer(ctx context.Context, etcdPort, port string) error {
	arguments := []string{
		"--etcd-servers=http://127.0.0.1:" + etcdPort,
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port=" + port,
		"--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/16",
		"--tls-cert-file=" + p.file("server.crt"), "--tls-private-key-file=" + p.file("server.key"),
		"--client-ca-file=" + p.file("ca.crt"), "--token-auth-file=" + p.file("tokens.csv"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + p.file("accounts.key"),
		"--service-account-signing-key-file=" + p.file("accounts.key"),
		"--authorization-mode=Node,RBAC", "--allow-privileged", "--profiling=false",
	}
	if !p.set.controllerManager {
		// Nobody would make the accounts that this plugin wants Pods to have.
		arguments = append(arguments, "--disable-admission-plugins=ServiceAccount")
	}
	if p.set.audit {
		if err := os.WriteFile(p.file("audit-policy.json"), []byte(auditPolicy), 0o600); err != nil {
			return err
		}
		arguments = append(arguments, "--audit-policy-file="+p.file("audit-policy.json"), "--audit-log-path="+p.file("audit.log"))
	}
	if err := p.spawn("kube-apiserver", arguments...); err != nil {
		return err
	}
	return p.wait(ctx, "kube-apiserver", func() error { return p.admin.get("/readyz", nil) })
}

// controlArguments are those that the controller manager and the scheduler have in common.
func (p *plane) controlArguments(name string) []string {
	return []string{
		"--kubeconfig=" + p.file(name+".kubeconfig"), "--leader-elect=false", "--profiling=false", "--secure-port=0",
		"--kube-api-qps=" + clientRate, "--kube-api-burst=" + clientRate,
	}
}

func (p *plane) startControllerManager(ctx context.Context) error {
	const name = "kube-controller-manager"
	arguments := append(p.controlArguments(name), "--use-service-account-credentials", "--root-ca-file="+p.file("ca.crt"),
		"--service-account-private-key-file="+p.file("accounts.key"))
	if err := p.spawn(name, arguments...); err != nil {
		return err
	}
	return p.wait(ctx, name, func() error {
		return p.admin.get("/api/v1/namespaces/default/serviceaccounts/default", nil)
	})
}

func (p *plane) startNodes(ctx context.Context) error {
	if err := os.WriteFile(p.file("kwok.yaml"), []byte(kwokConfiguration), 0o600); err != nil {
		return err
	}
	room := object{"cpu": "10000", "memory": "100Ti", "pods": "100000", "ephemeral-storage": "100Ti"}
	for number := range p.set.nodes {
		name := "kwok-" + strconv.Itoa(number)
		node := object{
			"apiVersion": "v1", "kind": "Node",
			"metadata": object{
				"name": name, "annotations": object{"kwok.x-k8s.io/node": "fake"},
				"labels": object{"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": runtime.GOARCH},
			},
			"status": object{"capacity": room, "allocatable": room},
		}
		if err := p.admin.send("POST", "/api/v1/nodes", "application/json", node); err != nil {
			return fmt.Errorf("node %s: %w", name, err)
		}
	}
	err := p.spawn("kwok", "--config="+p.file("kwok.yaml"), "--kubeconfig="+p.file("kwok.kubeconfig"),
		"--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake", "--node-ip=127.0.0.1",
		"--cidr=10.128.0.1/9", "--node-lease-duration-seconds=40", "--server-address=127.0.0.1:0")
	if err != nil {
		return err
	}
	return p.wait(ctx, "kwok", p.nodesAreReady)
}

func (p *plane) nodesAreReady() error {
	var list nodeList
	if err := p.admin.get("/api/v1/nodes", &list); err != nil {
		return err
	}
	for _, node := range list.Items {
		if !node.ready() {
			return fmt.Errorf("node %s is not ready", node.Metadata.Name)
		}
		if len(node.Spec.Taints) == 0 {
			continue
		}
		if p.set.controllerManager {
			return fmt.Errorf("node %s is tainted", node.Metadata.Name)
		}
		// Nobody else takes the taint of new nodes away.
		patch := object{"spec": object{"taints": nil}}
		if err := p.admin.send("PATCH", "/api/v1/nodes/"+node.Metadata.Name, "application/merge-patch+json", patch); err != nil {
			return err
		}
	}
	return nil
}

type nodeList struct{ Items []node }

type node struct {
	Metadata struct{ Name string }
	Spec     struct{ Taints []any }
	Status   struct {
		Conditions []struct{ Type, Status string }
	}
}

func (n node) ready() bool {
	for _, condition := range n.Status.Conditions {
		if condition.Type == "Ready" && condition.Status == "True" {
			return true
		}
	}
	return false
}

// freePorts holds all ports until all are chosen, so that they differ.
func freePorts(count int) ([]string, error) {
	ports := make([]string, 0, count)
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		ports = append(ports, strconv.Itoa(listener.Addr().(*net.TCPAddr).Port))
	}
	return ports, nil
}

// lookAgain is how often a program that starts is asked whether it is ready.
const lookAgain = 50 * time.Millisecond
