package main

import (
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ctxlock/ctxlock/internal/lab"
)

// site is where a contender runs: the servers, as seen from one end of a line.
type site struct {
	roundTrip time.Duration
	valkey    []string // three servers, of which most contenders use the first
	etcd      string

	// crowd is how many will wait for one name, by which those that poll are set.
	crowd int

	// Settings that a scenario or the search for a peer's best one may change; zero: the library's, or the contender's, own.
	validity, interval, retry, tryNextAfter time.Duration
}

// dialer waits longer than the clients would: hundreds connect at once.
func dialer() net.Dialer { return net.Dialer{Timeout: patience} }

// park is all that runs beside this process.
type park struct {
	servers []*lab.Server
	etcd    *child
	etcdDir string

	mu     sync.Mutex // for what follows: a signal may close the park at any moment
	lines  map[time.Duration]*child
	closed bool
}

const serverCount = 3

func openPark() (*park, error) {
	redis.SetLogger(silent{})
	p := &park{lines: make(map[time.Duration]*child)}
	for range serverCount {
		s, err := lab.Start(lab.Config{})
		if err != nil {
			p.close()
			return nil, err
		}
		p.servers = append(p.servers, s)
	}
	return p, nil
}

// startEtcd starts etcd unless it runs. It is left until it is needed: `-only` and the tests mostly do not.
func (p *park) startEtcd() (err error) {
	if p.etcd != nil {
		return nil
	}
	if p.etcdDir, err = os.MkdirTemp("", "ctxlock-lab-etcd-"); err != nil {
		return err
	}
	p.etcd, err = startChild(childEtcd, p.etcdDir)
	return err
}

// site gives the servers at a distance.
func (p *park) site(roundTrip time.Duration) (site, error) {
	if err := p.startEtcd(); err != nil {
		return site{}, err
	}
	var targets []string
	for _, s := range p.servers {
		targets = append(targets, s.Addr())
	}
	targets = append(targets, p.etcd.addresses[0])
	if roundTrip > 0 {
		line, err := p.line(roundTrip, targets)
		if err != nil {
			return site{}, err
		}
		targets = line.addresses
	}
	return site{roundTrip: roundTrip, valkey: targets[:serverCount], etcd: targets[serverCount]}, nil
}

// line starts the line of that length unless it runs.
func (p *park) line(roundTrip time.Duration, targets []string) (*child, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if line := p.lines[roundTrip]; line != nil {
		return line, nil
	}
	line, err := startChild(append([]string{childLine, roundTrip.String()}, targets...)...)
	if err == nil {
		p.lines[roundTrip] = line
	}
	return line, err
}

func (p *park) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	for _, line := range p.lines {
		line.stop()
	}
	if p.etcd != nil {
		p.etcd.stop()
	}
	if p.etcdDir != "" {
		_ = os.RemoveAll(p.etcdDir)
	}
	for _, s := range p.servers {
		s.Stop()
	}
}

// serverName is the server's name and version.
func (p *park) serverName() string {
	b := p.servers[0].Binary
	return fmt.Sprintf("%s %d.%d.%d", b.Name, b.Version[0], b.Version[1], b.Version[2])
}
