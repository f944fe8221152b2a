// Program up runs a Kubernetes control plane on loopback for as long as its standard input stays open.
//
// It prints one line of JSON when everything answers: the folder, the server, the kubeconfig of an administrator and
// the process IDs. At the end of its input, at a signal, or when one of the programs ends, it stops the others and
// removes the folder. Programs whose launcher is killed are killed with it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// startTimeout bounds the start of all programs together.
const startTimeout = 120 * time.Second

type settings struct {
	bin               string
	controllerManager bool
	scheduler         bool
	nodes             int
	audit             bool
	noFsync           bool
	identities        identityList
}

// identity is a token of the server: kubeconfigs are written to FILE.kubeconfig.
type identity struct {
	file, user string
	groups     []string
}

type identityList []identity

func (list *identityList) String() string { return fmt.Sprint(*list) }

// Set reads FILE=USER[,GROUP...].
func (list *identityList) Set(text string) error {
	file, who, found := strings.Cut(text, "=")
	names := strings.Split(who, ",")
	if !found || file == "" || names[0] == "" || strings.ContainsAny(text, "\"/\n") {
		return errors.New("want FILE=USER[,GROUP...]")
	}
	*list = append(*list, identity{file: file, user: names[0], groups: names[1:]})
	return nil
}

func main() {
	// A child dies with the thread that started it: all are started on this one, which lives as long as the program.
	runtime.LockOSThread()
	var set settings
	flag.StringVar(&set.bin, "bin", "", "folder with the programs")
	flag.BoolVar(&set.controllerManager, "controller-manager", false, "run kube-controller-manager")
	flag.BoolVar(&set.scheduler, "scheduler", false, "run kube-scheduler")
	flag.IntVar(&set.nodes, "nodes", 0, "run kwok with so many pretended nodes")
	flag.BoolVar(&set.audit, "audit", false, "write audit.log: one line of metadata for each request")
	flag.BoolVar(&set.noFsync, "no-fsync", false, "let etcd forget to sync: for tests, never for measurements")
	flag.Var(&set.identities, "identity", "FILE=USER[,GROUP...]: write FILE.kubeconfig for that user (repeatable)")
	flag.Parse()
	if set.bin == "" || flag.NArg() != 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(set); err != nil {
		fmt.Fprintln(os.Stderr, "up:", err)
		os.Exit(1)
	}
}

func run(set settings) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	watchForEnd(cancel)
	dir, err := os.MkdirTemp("", "atoll-kube-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	plane := &plane{set: set, dir: dir, ended: make(chan *program, 8)}
	defer plane.stop()
	starting, done := context.WithTimeout(ctx, startTimeout)
	defer done()
	if err := plane.start(starting); err != nil {
		if errors.Is(context.Cause(ctx), errAsked) {
			return nil
		}
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(plane.describe()); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case program := <-plane.ended:
		return program.failure()
	}
}

var errAsked = errors.New("asked to end")

// watchForEnd cancels at a signal and at the end of standard input.
func watchForEnd(cancel context.CancelCauseFunc) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	signal.Ignore(syscall.SIGPIPE)
	go func() {
		<-signals
		cancel(errAsked)
	}()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel(errAsked)
	}()
}

// description is what is printed.
type description struct {
	Dir        string         `json:"dir"`
	Server     string         `json:"server"`
	Kubeconfig string         `json:"kubeconfig"`
	Pids       map[string]int `json:"pids"`
}

func (p *plane) describe() description {
	pids := map[string]int{}
	for _, program := range p.programs {
		pids[program.name] = program.command.Process.Pid
	}
	return description{Dir: p.dir, Server: p.server, Kubeconfig: filepath.Join(p.dir, "admin.kubeconfig"), Pids: pids}
}
