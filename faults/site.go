package main

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ctxlock/ctxlock/internal/lab"
)

// machine is a server that can be made to suffer.
type machine interface {
	Addr() string
	Freeze()
	Thaw()
	Kill()
	Restart() error
	Stop()
}

// site is the servers of one run, and the links by which its clients reach them.
type site struct {
	kind     Kind
	validity time.Duration
	machines []machine
	servers  []*lab.Server // the same, unless it is etcd
	sentinel *lab.Sentinel
	cluster  *lab.Cluster
	silent   atomic.Int32   // by how many blows the first server does not answer
	links    [][]*lab.Proxy // by client, then by server; none with Sentinel and Cluster, whose servers tell their own addresses
}

// openSite starts the servers of a kind, with a link to each for each client.
func openSite(kind Kind, clients int, validity time.Duration, config lab.Config) (*site, error) {
	s := &site{kind: kind, validity: validity}
	sites.add(s)
	if err := s.start(config); err != nil {
		s.close()
		return nil, err
	}
	if kind == Sentinel || kind == Cluster {
		return s, nil
	}
	for range clients {
		var links []*lab.Proxy
		for _, m := range s.machines {
			p, err := lab.NewProxy(m.Addr())
			if err != nil {
				s.close()
				return nil, err
			}
			links = append(links, p)
		}
		s.links = append(s.links, links)
	}
	return s, nil
}

func (s *site) start(config lab.Config) (err error) {
	switch s.kind {
	case Etcd:
		etcd, err := startEtcd("", 0)
		if err != nil {
			return err
		}
		s.machines = []machine{etcd}
	case Single, Nodes:
		n := 1
		if s.kind == Nodes {
			n = 3
		}
		for range n {
			server, err := lab.Start(config)
			if err != nil {
				return err
			}
			s.servers, s.machines = append(s.servers, server), append(s.machines, server)
		}
	case Sentinel:
		if s.sentinel, err = lab.StartSentinel(config); err == nil {
			s.servers = s.sentinel.Data
		}
	case Cluster:
		if s.cluster, err = lab.StartCluster(3, 1, config); err == nil {
			s.servers = s.cluster.Nodes
		}
	default:
		return fmt.Errorf("no servers of kind %q", s.kind)
	}
	return err
}

// place is where a client finds the servers.
func (s *site) place(client int) Place {
	p := Place{Kind: s.kind, Validity: s.validity}
	switch s.kind {
	case Sentinel:
		p.Servers, p.Primary = s.sentinel.Addrs(), s.sentinel.MasterSet
	case Cluster:
		p.Servers = s.cluster.Addrs()
	default:
		for _, link := range s.links[client] {
			p.Servers = append(p.Servers, link.Addr())
		}
	}
	return p
}

// connections is how many clients' connections there are. It is not known with Sentinel and Cluster.
func (s *site) connections() (n int) {
	for _, links := range s.links {
		for _, link := range links {
			n += link.Open()
		}
	}
	return n
}

// keys lists the keys on all servers, with their time to live.
func (s *site) keys() (map[string]time.Duration, error) {
	all := make(map[string]time.Duration)
	if s.kind == Etcd {
		return etcdKeys(s.machines[0].Addr())
	}
	for _, server := range s.servers {
		if info, err := server.Info("replication"); err != nil || info["role"] != "master" {
			continue // dead, or has what its primary has
		}
		keys, err := server.Do("KEYS", "*")
		if err != nil {
			return nil, err
		}
		list, ok := keys.([]any)
		if !ok {
			return nil, errors.New("KEYS does not answer with a list")
		}
		for _, key := range list {
			ttl, err := server.Do("PTTL", key.(string))
			if err != nil {
				return nil, err
			}
			if ms, _ := ttl.(int64); ms != -2 {
				all[key.(string)] = time.Duration(ms) * time.Millisecond
			}
		}
	}
	return all, nil
}

// version is the name and version of what runs.
func (s *site) version() string {
	if len(s.servers) == 0 {
		return "etcd " + versionOf("go.etcd.io/etcd/server/v3")
	}
	b := s.servers[0].Binary
	name := strings.ToUpper(b.Name[:1]) + b.Name[1:]
	return fmt.Sprintf("%s %d.%d.%d", name, b.Version[0], b.Version[1], b.Version[2])
}

// sites are those that are open, for when the lab is interrupted.
var sites siteSet

type siteSet struct {
	mu   sync.Mutex
	open map[*site]bool
}

func (set *siteSet) add(s *site) {
	set.mu.Lock()
	defer set.mu.Unlock()
	if set.open == nil {
		set.open = make(map[*site]bool)
	}
	set.open[s] = true
}

// closeSites stops all servers, and removes what they have left. No run goes on after that.
func closeSites() {
	sites.mu.Lock() // and not given back: no site is opened or closed any more
	for s := range sites.open {
		s.stop()
	}
}

func (s *site) close() {
	sites.mu.Lock()
	delete(sites.open, s)
	sites.mu.Unlock()
	s.stop()
}

func (s *site) stop() {
	for _, links := range s.links {
		for _, link := range links {
			link.Close()
		}
	}
	switch {
	case s.sentinel != nil:
		s.sentinel.Stop()
	case s.cluster != nil:
		s.cluster.Stop()
	default:
		for _, m := range s.machines {
			m.Stop()
		}
	}
}
