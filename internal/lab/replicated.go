package lab

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// replicatedTimeout bounds the start and a promotion; both take a fraction of a second.
const replicatedTimeout = 30 * time.Second

// Replicated is a primary with plain asynchronous replicas, and nobody who watches them: a failover is what a spec makes of
// [Replicated.Promote]. Stop ends it.
type Replicated struct {
	Primary  *Server
	Replicas []*Server

	links []*Proxy // by replica
}

// replication has a replica follow within a quarter of a second. Otherwise the servers wait for their next look at replication,
// and they look once in a second: a primary that sends its data from memory, because the acknowledgement that it starts the stream
// upon tends to come before it is ready for that; and Valkey 9 when it keeps what it is sent on disk first.
var replication = []string{"repl-diskless-sync no", "repl-diskless-load on-empty-db"}

// StartReplicated runs a primary and its replicas, and returns once every replica follows the primary and the primary counts
// it in, so that WAIT works from then on.
func StartReplicated(replicas int, cfg Config) (*Replicated, error) {
	r := &Replicated{}
	if err := r.run(replicas, cfg); err != nil {
		r.Stop()
		return nil, err
	}
	return r, nil
}

func (r *Replicated) run(replicas int, cfg Config) (err error) {
	if r.Primary, err = start(cfg, role{settings: replication}); err != nil {
		return err
	}
	for range replicas {
		link, err := NewProxy(r.Primary.Addr())
		if err != nil {
			return err
		}
		r.links = append(r.links, link)
	}
	// In the configuration, not by a command: a replica that is restarted is a replica again.
	r.Replicas, err = startEach(replicas, cfg, func(i int) role {
		host, port, _ := strings.Cut(r.links[i].Addr(), ":")
		return role{settings: append([]string{"replicaof " + host + " " + port}, replication...)}
	})
	if err != nil {
		return err
	}
	return poll(replicatedTimeout, "the replicas", r.ready)
}

// ready is nil when every replica has its link and acknowledges what it gets. The primary calls one online before it sends it
// anything: the stream starts with the replica's first acknowledgement. A message is what goes to replicas and leaves no trace.
func (r *Replicated) ready() error {
	for _, s := range r.Replicas {
		if err := s.linked(); err != nil {
			return err
		}
	}
	if err := r.Primary.tell("PUBLISH", "lab", "ready"); err != nil {
		return err
	}
	// Briefly: a replica that was asked before its stream has begun does not hear that, and tells by itself in a second.
	n, err := r.Primary.Do("WAIT", strconv.Itoa(len(r.Replicas)), "20")
	if err == nil && n != int64(len(r.Replicas)) {
		err = fmt.Errorf("%v of %d replicas acknowledge", n, len(r.Replicas))
	}
	return err
}

// Link is the network between the primary and a replica. All that they tell each other goes through it: with Down stalled, the
// replica falls behind; with Up stalled, it keeps up and the primary does not hear of that, nor does WAIT. Clients that go to
// either server are not affected.
func (r *Replicated) Link(replica int) *Proxy { return r.links[replica] }

// Promote makes a primary of a replica, with what has reached it so far. The other servers are not told: they go on as before,
// the old primary too.
func (r *Replicated) Promote(replica int) error {
	s := r.Replicas[replica]
	if err := s.tell("REPLICAOF", "NO", "ONE"); err != nil {
		return err
	}
	return poll(replicatedTimeout, "the promotion", func() error {
		info, err := s.Info("replication")
		if err == nil && info["role"] != "master" {
			err = fmt.Errorf("%s is a %s", s.Addr(), info["role"])
		}
		return err
	})
}

// Stop ends all servers. Further calls do nothing.
func (r *Replicated) Stop() {
	for _, link := range r.links { // first: a primary that is asked to end waits for replicas that are behind
		link.Close()
	}
	stopAll(append([]*Server{r.Primary}, r.Replicas...))
}
