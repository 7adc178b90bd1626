package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// etcdMain is one etcd server with its defaults: every write is on disk before it is answered. Its arguments are its folder and its port.
// It prints its address once it serves, and ends when its standard input does.
func etcdMain(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%s: want a folder and a port, got %q", childEtcd, args)
	}
	config := embed.NewConfig()
	config.Dir = args[0]
	config.LogLevel, config.LogOutputs = "fatal", []string{os.DevNull}
	clients := []url.URL{{Scheme: "http", Host: net.JoinHostPort("127.0.0.1", args[1])}}
	config.ListenClientUrls, config.AdvertiseClientUrls = clients, clients
	peers := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}} // it has none
	config.ListenPeerUrls, config.AdvertisePeerUrls = peers, peers
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	e, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	defer e.Close()
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		return err
	case <-time.After(20 * time.Second):
		return errors.New("etcd did not start")
	}
	fmt.Println(e.Clients[0].Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

// etcdServer is an etcd server in a process of its own. Its methods are safe for concurrent use.
type etcdServer struct {
	dir  string
	made bool // dir is ours to remove
	port int

	mu     sync.Mutex // for what follows
	cmd    *exec.Cmd  // nil: it does not run
	stdin  io.Closer
	frozen bool
}

// startEtcd returns once the server answers. Without a folder it makes one; port 0 is any.
func startEtcd(dir string, port int) (*etcdServer, error) {
	s := &etcdServer{dir: dir, port: port}
	if dir == "" {
		var err error
		if s.dir, err = os.MkdirTemp("", "ctxlock-faults-etcd-"); err != nil {
			return nil, err
		}
		s.made = true
	}
	if port == 0 {
		s.port = freePort()
	}
	if err := s.Restart(); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// freePort is below the range that systems hand out to outgoing connections, so that none takes it while the server is down. If it finds
// none that is free, the server says so.
func freePort() int {
	port := 0
	for range 100 {
		port = 11000 + rand.IntN(21000)
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			_ = l.Close()
			break
		}
	}
	return port
}

// Addr is where it listens, also after Restart.
func (s *etcdServer) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Freeze stops the process where it stands. When it returns, nothing moves any more.
func (s *etcdServer) Freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil || s.frozen {
		return
	}
	s.frozen = true
	_ = s.cmd.Process.Signal(syscall.SIGSTOP)                            // the only error is that it has ended, which the next call tells as well
	_, _ = syscall.Wait4(s.cmd.Process.Pid, nil, syscall.WUNTRACED, nil) // tells once of each stop, when all threads have come to it
}

// Thaw lets it go on.
func (s *etcdServer) Thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil && s.frozen {
		_ = s.cmd.Process.Signal(syscall.SIGCONT)
	}
	s.frozen = false
}

// Kill ends the process at once, as a crash would, frozen or not.
func (s *etcdServer) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kill()
}

func (s *etcdServer) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // how it ended is known
	_ = s.stdin.Close()
	s.cmd, s.frozen = nil, false
}

// Restart kills the process, unless it does not run, and starts it again with the data that it had.
func (s *etcdServer) Restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kill()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, childEtcd, s.dir, strconv.Itoa(s.port))
	cmd.Stderr, cmd.SysProcAttr = os.Stderr, attributes()
	if s.stdin, err = cmd.StdinPipe(); err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd = cmd
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err == nil && strings.TrimSpace(address) != s.Addr() {
		err = fmt.Errorf("it listens on %q", address)
	}
	if err != nil {
		s.kill()
		return fmt.Errorf("etcd at %s: %w", s.Addr(), err)
	}
	return nil
}

// Stop ends the process, and removes the folder if startEtcd has made it.
func (s *etcdServer) Stop() {
	s.Kill()
	if s.made {
		_ = os.RemoveAll(s.dir)
	}
}
