package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	stopTimeout   = 5 * time.Second
	logBytesShown = 6000
)

// program is one that was started.
type program struct {
	name    string
	log     string
	command *exec.Cmd
	gone    chan struct{}
	outcome error
}

// spawn starts a program with its output in a file of its name.
func (p *plane) spawn(name string, arguments ...string) error {
	started := &program{name: name, log: p.file(name + ".log"), gone: make(chan struct{})}
	output, err := os.Create(started.log)
	if err != nil {
		return err
	}
	defer output.Close()
	started.command = exec.Command(filepath.Join(p.set.bin, name), arguments...)
	started.command.Dir = p.dir
	started.command.Stdout, started.command.Stderr = output, output
	// A group of its own keeps a terminal's Ctrl-C to the launcher; the parent's death is the child's.
	started.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := started.command.Start(); err != nil {
		return err
	}
	p.programs = append(p.programs, started)
	go func() {
		started.outcome = started.command.Wait()
		close(started.gone)
		p.ended <- started
	}()
	return nil
}

// wait asks until a program is ready, a program ends, or time is up.
func (p *plane) wait(ctx context.Context, name string, ready func() error) error {
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case ended := <-p.ended:
			return ended.failure()
		case <-ctx.Done():
			return fmt.Errorf("%s did not get ready: %w\n%s", name, err, tail(p.file(name+".log")))
		case <-time.After(lookAgain):
		}
	}
}

// stop ends what was started last first: nothing is to write to a server or a database that is gone.
func (p *plane) stop() {
	for _, program := range slices.Backward(p.programs) {
		_ = program.command.Process.Signal(syscall.SIGTERM)
		select {
		case <-program.gone:
		case <-time.After(stopTimeout):
			_ = program.command.Process.Kill()
			<-program.gone
		}
	}
}

func (started *program) failure() error {
	return fmt.Errorf("%s ended: %v\n%s", started.name, started.outcome, tail(started.log))
}

func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-logBytesShown):]))
}
