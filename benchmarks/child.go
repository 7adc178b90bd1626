package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/ctxlock/ctxlock/internal/lab"
)

// Children are this program again, as something whose CPU must not count as the clients': etcd, and the lines with a delay. Each prints
// a line with its addresses and ends when its standard input does, so also when its parent was killed.
const (
	childEtcd = "child:etcd"
	childLine = "child:line"
)

// runChild is main in a child; false: this is none.
func runChild() bool {
	if len(os.Args) < 2 {
		return false
	}
	var err error
	switch os.Args[1] {
	case childEtcd:
		err = etcdMain(os.Args[2])
	case childLine:
		err = lineMain(os.Args[2], os.Args[3:])
	default:
		return false
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// tell prints what the parent waits for, and waits for the parent's end.
func tell(addresses []string) {
	fmt.Println(strings.Join(addresses, " "))
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// etcdMain is one etcd server with its defaults: every write is on disk before it is answered.
func etcdMain(dir string) error {
	config := embed.NewConfig()
	config.Dir = dir
	config.LogLevel, config.LogOutputs = "fatal", []string{os.DevNull}
	any := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	config.ListenClientUrls, config.AdvertiseClientUrls = any, any
	config.ListenPeerUrls, config.AdvertisePeerUrls = any, any
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
	case <-time.After(patience):
		return errors.New("etcd did not start")
	}
	tell([]string{e.Clients[0].Addr().String()})
	return nil
}

// lineMain puts a line of some length before each target: half of the round trip goes each way.
func lineMain(roundTrip string, targets []string) error {
	d, err := time.ParseDuration(roundTrip)
	if err != nil {
		return err
	}
	var addresses []string
	var proxies []*lab.Proxy
	for _, target := range targets {
		proxy, err := lab.NewProxy(target)
		if err != nil {
			return err
		}
		defer proxy.Close()
		proxy.Delay(d / 2)
		addresses, proxies = append(addresses, proxy.Addr()), append(proxies, proxy)
	}
	go sharpen(proxies)
	tell(addresses)
	return nil
}

// sharpen keeps timers to a tenth of a millisecond while anybody is connected: when nothing else goes on, Go waits in whole milliseconds, and a
// round trip of one would take more than two.
func sharpen(proxies []*lab.Proxy) {
	for {
		open := 0
		for _, p := range proxies {
			open += p.Open()
		}
		if open == 0 {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		for range 100 {
			nap(50 * time.Microsecond)
			runtime.Gosched() // looks at all timers
		}
	}
}

// child is a child as its parent sees it.
type child struct {
	cmd       *exec.Cmd
	stdin     io.Closer
	addresses []string
}

func startChild(args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, args...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{cmd: cmd, stdin: stdin}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		c.stop()
		return nil, fmt.Errorf("%s: no address: %w", args[0], err)
	}
	c.addresses = strings.Fields(line)
	return c, nil
}

func (c *child) stop() {
	_ = c.stdin.Close()
	late := time.AfterFunc(2*time.Second, func() { _ = c.cmd.Process.Kill() })
	defer late.Stop()
	_ = c.cmd.Wait() // how it ended interests nobody
}
