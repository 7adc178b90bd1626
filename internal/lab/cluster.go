package lab

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// clusterTimeout bounds each step of forming a cluster and of a failover. A cluster needs some 2.5 s to form: a primary
// refuses to be one for the first two.
const clusterTimeout = 30 * time.Second

const slots = 16384

// Cluster is a Valkey or Redis Cluster on loopback. Stop ends it.
type Cluster struct {
	// Nodes are the primaries of the start, in the order of their slots, then their replicas.
	Nodes []*Server
}

// StartCluster runs a cluster of primaries with as many replicas for each, and returns once every node finds it well and
// knows every other. Its node timeout is one second, so that a failover takes two or three.
func StartCluster(primaries, replicasEach int, cfg Config) (*Cluster, error) {
	nodes, err := startAll(primaries*(1+replicasEach), cfg, role{cluster: true, settings: []string{
		"cluster-node-timeout 1000",
		"cluster-replica-validity-factor 0", // a replica may always stand for election: its data is never too old for a test
		"repl-ping-replica-period 1",        // Redis 7 does not tell clients of a replica before it got its first bytes
	}})
	if err != nil {
		return nil, err
	}
	c := &Cluster{Nodes: nodes}
	if err := c.form(primaries); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

// startAll runs n servers of one role at once.
func startAll(n int, cfg Config, r role) ([]*Server, error) {
	return startEach(n, cfg, func(int) role { return r })
}

// startEach runs n servers at once, each in its own role.
func startEach(n int, cfg Config, roleOf func(i int) role) ([]*Server, error) {
	var (
		servers = make([]*Server, n)
		errs    = make([]error, n)
		wg      sync.WaitGroup
	)
	for i := range n {
		wg.Go(func() { servers[i], errs[i] = start(cfg, roleOf(i)) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		stopAll(servers)
		return nil, err
	}
	return servers, nil
}

// stopAll stops servers at once; nil ones, which never ran, are passed over.
func stopAll(servers []*Server) {
	var wg sync.WaitGroup
	for _, s := range servers {
		if s != nil {
			wg.Go(s.Stop)
		}
	}
	wg.Wait()
}

// form makes a cluster of nodes that do not know each other: slots, acquaintance, replicas.
func (c *Cluster) form(primaries int) error {
	for i, s := range c.Nodes[:primaries] {
		first, last := i*slots/primaries, (i+1)*slots/primaries-1
		if err := s.tell("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(first), strconv.Itoa(last)); err != nil {
			return err
		}
	}
	for i, s := range c.Nodes {
		// Distinct from the start; nodes that find themselves at one epoch would have to sort that out first.
		if err := s.tell("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1)); err != nil {
			return err
		}
		for _, other := range c.Nodes[:i] {
			if err := s.tell("CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(other.port), strconv.Itoa(other.bus)); err != nil {
				return err
			}
		}
	}
	for i, s := range c.Nodes[primaries:] {
		id, err := c.Nodes[i%primaries].text("CLUSTER", "MYID")
		if err != nil {
			return err
		}
		// Refused until the replica has heard of its primary.
		err = poll(clusterTimeout, "a replica", func() error { return s.tell("CLUSTER", "REPLICATE", id) })
		if err != nil {
			return err
		}
	}
	for _, s := range c.Nodes {
		if err := poll(clusterTimeout, "the cluster", func() error { return s.clusterReady(primaries, len(c.Nodes)) }); err != nil {
			return err
		}
	}
	return nil
}

// clusterReady is nil when the node finds its cluster well and would tell a client of all nodes.
func (s *Server) clusterReady(primaries, nodes int) error {
	if err := s.clusterOK(); err != nil {
		return err
	}
	ranges, err := s.slotRanges()
	if err != nil {
		return err
	}
	seen := 0
	for _, r := range ranges {
		seen += len(r.ports)
	}
	if len(ranges) != primaries || seen != nodes {
		return fmt.Errorf("%s knows %d of %d nodes", s.Addr(), seen, nodes)
	}
	info, err := s.Info("replication")
	if err != nil {
		return err
	}
	if link := info["master_link_status"]; info["role"] == "slave" && link != "up" {
		return fmt.Errorf("the replica %s is %s", s.Addr(), link)
	}
	return nil
}

func (s *Server) clusterOK() error {
	text, err := s.text("CLUSTER", "INFO")
	if err != nil {
		return err
	}
	if state := fields(text)["cluster_state"]; state != "ok" {
		return fmt.Errorf("cluster_state is %q at %s", state, s.Addr())
	}
	return nil
}

// tell sends a command of which only the success matters.
func (s *Server) tell(args ...string) error {
	if _, err := s.Do(args...); err != nil {
		return fmt.Errorf("lab: %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// text sends a command that answers a string.
func (s *Server) text(args ...string) (string, error) {
	reply, err := s.Do(args...)
	if err != nil {
		return "", err
	}
	text, ok := reply.(string)
	if !ok {
		return "", fmt.Errorf("lab: %s answered %v", strings.Join(args, " "), reply)
	}
	return text, nil
}

// slotRange is one line of CLUSTER SLOTS.
type slotRange struct {
	first, last int64
	ports       []int64 // of the primary, then of its replicas
}

func (s *Server) slotRanges() ([]slotRange, error) {
	reply, err := s.Do("CLUSTER", "SLOTS")
	if err != nil {
		return nil, err
	}
	lines, _ := reply.([]any)
	ranges := make([]slotRange, 0, len(lines))
	for _, l := range lines {
		line, ok := l.([]any)
		if !ok || len(line) < 3 {
			return nil, fmt.Errorf("lab: CLUSTER SLOTS answered %v", reply)
		}
		r := slotRange{}
		r.first, _ = line[0].(int64)
		r.last, _ = line[1].(int64)
		for _, n := range line[2:] {
			if node, ok := n.([]any); ok && len(node) > 1 {
				port, _ := node[1].(int64)
				r.ports = append(r.ports, port)
			}
		}
		ranges = append(ranges, r)
	}
	return ranges, nil
}

// Addrs are the addresses of all nodes.
func (c *Cluster) Addrs() []string { return addrs(c.Nodes) }

func addrs(servers []*Server) []string {
	a := make([]string, len(servers))
	for i, s := range servers {
		a[i] = s.Addr()
	}
	return a
}

// Slot is the slot of a key.
func (c *Cluster) Slot(key string) (int, error) {
	for _, s := range c.Nodes {
		if !s.answers() {
			continue
		}
		reply, err := s.Do("CLUSTER", "KEYSLOT", key)
		if n, ok := reply.(int64); ok {
			return int(n), err
		}
	}
	return 0, errors.New("lab: no node of the cluster answers")
}

// Primary is the node that serves a key, on which all nodes that run agree; while they do not, there is an error. Nodes
// that were killed or frozen are not asked.
func (c *Cluster) Primary(key string) (*Server, error) {
	slot, err := c.Slot(key)
	if err != nil {
		return nil, err
	}
	var primary *Server
	for _, s := range c.Nodes {
		if !s.answers() {
			continue
		}
		p, err := c.primaryAt(s, int64(slot))
		if err != nil {
			return nil, err
		}
		if primary != nil && p != primary {
			return nil, fmt.Errorf("lab: the nodes do not agree who serves slot %d", slot)
		}
		primary = p
	}
	return primary, nil
}

// primaryAt is the primary of a slot as s sees it.
func (c *Cluster) primaryAt(s *Server, slot int64) (*Server, error) {
	ranges, err := s.slotRanges()
	if err != nil {
		return nil, err
	}
	for _, r := range ranges {
		if slot < r.first || slot > r.last || len(r.ports) == 0 {
			continue
		}
		for _, n := range c.Nodes {
			if int64(n.port) == r.ports[0] {
				return n, nil
			}
		}
	}
	return nil, fmt.Errorf("lab: at %s nobody serves slot %d", s.Addr(), slot)
}

// KillPrimary kills the node that serves a key and returns it. AwaitFailover returns its successor.
func (c *Cluster) KillPrimary(key string) (*Server, error) {
	p, err := c.Primary(key)
	if err != nil {
		return nil, err
	}
	p.Kill()
	return p, nil
}

// AwaitFailover waits until all nodes that run agree that the key is served by another node than old, and find the cluster
// well.
func (c *Cluster) AwaitFailover(key string, old *Server) (*Server, error) {
	var next *Server
	err := poll(clusterTimeout, "the failover", func() (err error) {
		if next, err = c.Primary(key); err != nil {
			return err
		}
		if next == old {
			return fmt.Errorf("%s is still the primary", old.Addr())
		}
		for _, s := range c.Nodes {
			if s.answers() {
				if err := s.clusterOK(); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return next, err
}

// MoveSlot moves a slot and the keys in it to another primary, as resharding does: the source answers ASK for keys that have
// left while the move lasts, and MOVED afterwards.
func (c *Cluster) MoveSlot(slot int, to *Server) error {
	from, err := c.primaryAt(to, int64(slot))
	if err != nil || from == to {
		return err
	}
	n := strconv.Itoa(slot)
	fromID, err := from.text("CLUSTER", "MYID")
	if err != nil {
		return err
	}
	toID, err := to.text("CLUSTER", "MYID")
	if err != nil {
		return err
	}
	if err := to.tell("CLUSTER", "SETSLOT", n, "IMPORTING", fromID); err != nil {
		return err
	}
	if err := from.tell("CLUSTER", "SETSLOT", n, "MIGRATING", toID); err != nil {
		return err
	}
	if err := from.migrate(n, to); err != nil {
		return err
	}
	// The new owner first: were it to fail after the source had let go, the slot would belong to nobody.
	for _, s := range append([]*Server{to, from}, c.Nodes...) {
		if !s.answers() {
			continue
		}
		if info, err := s.Info("replication"); err != nil || info["role"] == "slave" {
			continue // replicas hear of it from their primaries, and refuse to be told
		}
		if err := s.tell("CLUSTER", "SETSLOT", n, "NODE", toID); err != nil {
			return err
		}
	}
	return poll(clusterTimeout, "the nodes to hear of the move", func() error {
		for _, s := range c.Nodes {
			if !s.answers() {
				continue
			}
			if p, err := c.primaryAt(s, int64(slot)); err != nil || p != to {
				return errors.Join(err, fmt.Errorf("%s has not", s.Addr()))
			}
		}
		return nil
	})
}

// migrate moves all keys of a slot.
func (s *Server) migrate(slot string, to *Server) error {
	for {
		reply, err := s.Do("CLUSTER", "GETKEYSINSLOT", slot, "100")
		if err != nil {
			return err
		}
		keys, _ := reply.([]any)
		if len(keys) == 0 {
			return nil
		}
		args := []string{"MIGRATE", "127.0.0.1", strconv.Itoa(to.port), "", "0", "5000"}
		if p := to.cfg.Password; p != "" {
			args = append(args, "AUTH", p)
		}
		args = append(args, "KEYS")
		for _, k := range keys {
			args = append(args, fmt.Sprint(k))
		}
		if err := s.tell(args...); err != nil {
			return err
		}
	}
}

// Stop ends all nodes. Further calls do nothing.
func (c *Cluster) Stop() { stopAll(c.Nodes) }
