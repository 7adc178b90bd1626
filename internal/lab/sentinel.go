package lab

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// sentinelTimeout bounds the start and a failover; both take three or four seconds.
const sentinelTimeout = 30 * time.Second

// Sentinel is a primary with one replica, watched by three sentinels. Stop ends them.
type Sentinel struct {
	MasterSet string    // the name by which sentinels know the primary
	Sentinels []*Server // three
	Data      []*Server // the first primary, then its replica
}

// StartSentinel runs all five servers and returns once the sentinels know each other and the replica, so that a failover
// works from then on. It takes half a second of silence for them to call the primary down. Config.Password is that of the
// data servers and of the sentinels.
func StartSentinel(cfg Config) (*Sentinel, error) {
	s := &Sentinel{MasterSet: "lab"}
	if err := s.run(cfg); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

func (s *Sentinel) run(cfg Config) error {
	primary, err := start(cfg, role{})
	if err != nil {
		return err
	}
	s.Data = append(s.Data, primary)
	port := strconv.Itoa(primary.port)
	replica, err := start(cfg, role{settings: []string{"replicaof 127.0.0.1 " + port}})
	if err != nil {
		return err
	}
	s.Data = append(s.Data, replica)
	// A sentinel asks the primary for its replicas at its start and then every ten seconds only.
	if err := poll(sentinelTimeout, "the replica", func() error { return replica.linked() }); err != nil {
		return err
	}
	settings := []string{
		fmt.Sprintf("sentinel monitor %s 127.0.0.1 %s 2", s.MasterSet, port),
		fmt.Sprintf("sentinel down-after-milliseconds %s 500", s.MasterSet),
		// How long a failed attempt keeps the next one waiting (twice this); attempts themselves take less than a second.
		fmt.Sprintf("sentinel failover-timeout %s 2000", s.MasterSet),
	}
	if p := cfg.Password; p != "" {
		settings = append(settings, fmt.Sprintf("sentinel auth-pass %s %s", s.MasterSet, p), "sentinel sentinel-pass "+p)
	}
	sentinelConfig := cfg
	sentinelConfig.Args = nil // they are for servers that hold data: most are unknown to a sentinel
	if s.Sentinels, err = startAll(3, sentinelConfig, role{sentinel: true, settings: settings}); err != nil {
		return err
	}
	for _, watcher := range s.Sentinels {
		if err := poll(sentinelTimeout, "the sentinels", func() error { return s.watching(watcher) }); err != nil {
			return err
		}
	}
	return nil
}

// linked is nil when a replica follows its primary.
func (s *Server) linked() error {
	info, err := s.Info("replication")
	if err != nil {
		return err
	}
	if link := info["master_link_status"]; link != "up" {
		return fmt.Errorf("the link is %q", link)
	}
	return nil
}

// watching is nil when a sentinel knows the replica and the other sentinels.
func (s *Sentinel) watching(watcher *Server) error {
	reply, err := watcher.Do("SENTINEL", "MASTER", s.MasterSet)
	if err != nil {
		return err
	}
	state := pairs(reply)
	if state["num-slaves"] != "1" || state["num-other-sentinels"] != "2" || state["flags"] != "master" {
		return fmt.Errorf("%s sees %s replicas, %s other sentinels, flags %s", watcher.Addr(), state["num-slaves"],
			state["num-other-sentinels"], state["flags"])
	}
	return nil
}

// pairs reads a reply that lists names and values in turn.
func pairs(reply any) map[string]string {
	list, _ := reply.([]any)
	m := make(map[string]string)
	for i := 0; i+1 < len(list); i += 2 {
		m[fmt.Sprint(list[i])] = fmt.Sprint(list[i+1])
	}
	return m
}

// Addrs are the addresses of the sentinels.
func (s *Sentinel) Addrs() []string { return addrs(s.Sentinels) }

// Primary is the server which the sentinels that run agree on and which agrees itself; while there is none, as during a
// failover, there is an error.
func (s *Sentinel) Primary() (*Server, error) {
	var primary *Server
	for _, watcher := range s.Sentinels {
		if !watcher.answers() {
			continue
		}
		p, err := s.primaryAt(watcher)
		if err != nil {
			return nil, err
		}
		if primary != nil && p != primary {
			return nil, errors.New("lab: the sentinels do not agree on a primary")
		}
		primary = p
	}
	if primary == nil {
		return nil, errors.New("lab: no sentinel answers")
	}
	if !primary.answers() {
		return primary, nil // it was killed or frozen a moment ago
	}
	info, err := primary.Info("replication")
	if err == nil && info["role"] != "master" {
		err = fmt.Errorf("lab: %s is not a primary yet", primary.Addr())
	}
	return primary, err
}

func (s *Sentinel) primaryAt(watcher *Server) (*Server, error) {
	reply, err := watcher.Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.MasterSet)
	if err != nil {
		return nil, err
	}
	if addr, ok := reply.([]any); ok && len(addr) == 2 {
		for _, d := range s.Data {
			if strconv.Itoa(d.port) == addr[1] {
				return d, nil
			}
		}
	}
	return nil, fmt.Errorf("lab: %s answers the address %v", watcher.Addr(), reply)
}

// KillPrimary kills the primary and returns it. AwaitFailover returns its successor.
func (s *Sentinel) KillPrimary() (*Server, error) {
	p, err := s.Primary()
	if err != nil {
		return nil, err
	}
	p.Kill()
	return p, nil
}

// AwaitFailover waits until the sentinels agree on another primary than old.
func (s *Sentinel) AwaitFailover(old *Server) (*Server, error) {
	var next *Server
	err := poll(sentinelTimeout, "the failover", func() (err error) {
		if next, err = s.Primary(); err == nil && next == old {
			err = fmt.Errorf("%s is still the primary", old.Addr())
		}
		return err
	})
	return next, err
}

// Stop ends all servers. Further calls do nothing.
func (s *Sentinel) Stop() {
	stopAll(s.Sentinels) // first, so that they do not begin a failover
	stopAll(s.Data)
}
