package ctxlock

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ctxlock/ctxlock/internal/jitter"
	"github.com/ctxlock/ctxlock/store"
)

// nodes is several independent servers as one store: key i of each lock lives on node i, the rest on the first node.
type nodes struct {
	prefix string
	all    []*node

	life context.Context // ends when Close begins
	end  context.CancelFunc
	work sync.WaitGroup // those that are still connecting

	tried chan firstTry // has room for all that is sent

	mu      sync.Mutex
	opening bool              // the call that makes the locker has not returned; under mu
	events  func(store.Event) // under mu, as is every change of a node's store
}

// node is one of them. Until it is connected, everything that is asked of it fails.
type node struct {
	address string // for errors
	store   atomic.Pointer[valkeyStore]
	fault   atomic.Pointer[error] // why it is not connected
	restart *restartGuard         // nil unless that is asked for
}

const (
	// nodesGrace is how long NewRedlock waits for the others when it is decided whether there is a majority.
	nodesGrace = 250 * time.Millisecond
	// leastReconnect and mostReconnect are the pauses between attempts to connect to a node.
	leastReconnect, mostReconnect = 100 * time.Millisecond, 5 * time.Second
)

var errConnecting error = unsent{errors.New("still connecting")}

// openNodes connects to as many nodes as it takes.
func openNodes(option RedlockOption, settled LockerOption, d drift) (*nodes, error) {
	n := &nodes{prefix: settled.KeyPrefix, opening: true}
	n.tried = make(chan firstTry, 2*len(option.Nodes)) // two of each: its first attempt, and a panic in a later one
	n.life, n.end = context.WithCancel(context.Background())
	for _, client := range option.Nodes {
		nodeOption := settled
		nodeOption.ClientOption = client
		one := &node{address: strings.Join(client.InitAddress, ",")}
		one.fault.Store(&errConnecting)
		if option.DelayedRestart {
			one.restart = newRestartGuard(settled.KeyValidity)
		}
		n.all = append(n.all, one)
		n.work.Go(func() { n.connect(one, nodeOption, d) })
	}
	ended, err := n.awaitMajority(int(settled.KeyMajority))
	if ended == nil {
		ended = n.opened()
	}
	if err != nil || ended != nil {
		n.Close()
	}
	if ended != nil {
		ended()
	}
	if err != nil {
		return nil, err
	}
	return n, nil
}

// firstTry is a first attempt to connect to a node, which has failed if that has no store.
type firstTry struct {
	*node
	ended func() // repeats the panic, or runtime.Goexit, of a ClientBuilder; nil if there was none
}

// opened is for the call that makes the locker, which is about to return. It gives what repeats a
// panic that it has not heard of.
func (n *nodes) opened() (ended func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.opening = false
	for {
		select {
		case one := <-n.tried:
			if one.ended != nil {
				return one.ended
			}
		default:
			return nil
		}
	}
}

// awaitMajority waits for the first attempts to connect. It fails if they cannot make a majority
// any more. ended is that of the first attempt that has one.
func (n *nodes) awaitMajority(majority int) (ended func(), err error) {
	connected, failed := 0, 0
	var grace <-chan time.Time
	for over := false; connected+failed < len(n.all) && !over; {
		select {
		case one := <-n.tried:
			if one.ended != nil {
				return one.ended, nil
			}
			if one.store.Load() != nil {
				connected++
			} else {
				failed++
			}
		case <-grace:
			over = true
		}
		if grace == nil && (connected >= majority || failed > len(n.all)-majority) {
			timer := time.NewTimer(nodesGrace)
			defer timer.Stop()
			grace = timer.C
		}
	}
	if connected >= majority {
		return nil, nil
	}
	none := &QuorumError{Needed: majority}
	for _, one := range n.all {
		said := NodeError{Node: one.address, Outcome: NodeAnswered}
		if one.store.Load() == nil {
			said.fail(*one.fault.Load())
		}
		none.Nodes = append(none.Nodes, said)
	}
	return nil, fmt.Errorf("ctxlock: connecting: %w", none)
}

// connect tries to connect to a node until that succeeds, or the store is closed. It reports its first attempt.
func (n *nodes) connect(one *node, option LockerOption, d drift) {
	pause := backoff{first: leastReconnect, most: mostReconnect}
	for first := true; ; first = false {
		s, err := n.open(one, option, d)
		if err == nil {
			n.meet(one, s)
			n.connected(one, s)
		} else {
			err = unsent{err}
			one.fault.Store(&err)
		}
		if first {
			n.tried <- firstTry{node: one}
		}
		if err == nil {
			return
		}
		timer := time.NewTimer(jitter.Between(pause.next()/2, pause.span))
		select {
		case <-timer.C:
		case <-n.life.Done():
			timer.Stop()
			return
		}
	}
}

var errBuilderEnded = errors.New("ClientBuilder ended its goroutine")

// open connects once, on a goroutine that a ClientBuilder may end. If it does, or panics, that is
// repeated by the call that makes the locker, as long as that has not returned.
func (n *nodes) open(one *node, option LockerOption, d drift) (s *valkeyStore, err error) {
	err = errBuilderEnded
	done := make(chan struct{})
	go func() {
		defer close(done)
		returned := false
		defer func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			if returned || !n.opening { // nobody is there to repeat a panic, so it goes on
				return
			}
			ended := runtime.Goexit
			if v := recover(); v != nil {
				ended = func() { panic(v) }
			}
			n.tried <- firstTry{one, ended}
		}()
		s, err = openValkeyWithin(n.life, option, d)
		returned = true
	}()
	<-done
	return s, err
}

// meet finds out about a node what is to be compared with later.
func (n *nodes) meet(one *node, s *valkeyStore) {
	if one.restart == nil {
		return
	}
	ctx, cancel := context.WithTimeout(n.life, probeTime)
	defer cancel()
	_ = one.restart.check(ctx, s) // the first claim asks again
}

// connected puts a node to use. Locks that are held look at it, and take it in.
func (n *nodes) connected(one *node, s *valkeyStore) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.life.Err() != nil {
		s.Close()
		return
	}
	if n.events != nil {
		s.Subscribe(n.events)
	}
	one.store.Store(s)
	if n.events != nil {
		n.events(store.Event{All: true})
	}
}

func (n *nodes) Subscribe(events func(store.Event)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = events
	for _, one := range n.all {
		if s := one.store.Load(); s != nil {
			s.Subscribe(events)
		}
	}
}

// indexOf is the node of a key.
func (n *nodes) indexOf(key string) int {
	if rest, ok := strings.CutPrefix(key, n.prefix+":"); ok {
		mark, _, _ := strings.Cut(rest, ":")
		if i, err := strconv.Atoi(mark); err == nil && i >= 0 && i < len(n.all) {
			return i
		}
	}
	return 0
}

// Lane has the node's lanes follow those of the nodes before it.
func (n *nodes) Lane(key string) int {
	i := n.indexOf(key)
	lane := i * clusterLanes
	if s := n.all[i].store.Load(); s != nil {
		lane += s.Lane(key)
	}
	return lane
}

// NodeOf is what errors call a key's node.
func (n *nodes) NodeOf(key string) string { return n.all[n.indexOf(key)].address }

// on makes a request of the node that the ops are for.
func (n *nodes) on(ops []store.Op, request func(one *node, s *valkeyStore)) {
	if len(ops) == 0 {
		return
	}
	one := n.all[n.indexOf(ops[0].Key)]
	s := one.store.Load()
	if s == nil {
		failAll(ops, *one.fault.Load())
		return
	}
	request(one, s)
}

func (n *nodes) Claim(ctx context.Context, ops []store.Op) {
	n.on(ops, func(one *node, s *valkeyStore) {
		if one.restart == nil || ops[0].Force || ops[0].Restore {
			s.Claim(ctx, ops)
			return
		}
		one.restart.claim(ctx, s, ops)
	})
}

func (n *nodes) Extend(ctx context.Context, ops []store.Op) {
	n.on(ops, func(_ *node, s *valkeyStore) { s.Extend(ctx, ops) })
}

func (n *nodes) Release(ctx context.Context, ops []store.Op) {
	n.on(ops, func(_ *node, s *valkeyStore) { s.Release(ctx, ops) })
}

func (n *nodes) Read(ctx context.Context, ops []store.Op) {
	n.on(ops, func(_ *node, s *valkeyStore) { s.Read(ctx, ops) })
}

func (n *nodes) Look(ctx context.Context, ops []store.Op) {
	n.on(ops, func(_ *node, s *valkeyStore) { s.Look(ctx, ops) })
}

// OpenQueue does nothing. Nobody could pass a lock on in one step whose keys are on several nodes, and a queue on one of them would have all
// waiters depend on that one, which is what several nodes are there to avoid.
func (n *nodes) OpenQueue(string, func(error)) {}

// Queues tells so.
func (n *nodes) Queues() int { return 0 }

func (n *nodes) Enlist(ctx context.Context, ops []store.Op) {
	n.on(ops, func(_ *node, s *valkeyStore) { s.Enlist(ctx, ops) })
}

func (n *nodes) Waiting(ctx context.Context, ops []store.Op) {
	n.on(ops, func(_ *node, s *valkeyStore) { s.Waiting(ctx, ops) })
}

// Scan goes through as many nodes as can be reached. If that is a majority, every lock is found that a majority has.
func (n *nodes) Scan(ctx context.Context, prefix string, found func(keys []string) bool) error {
	failed := &QuorumError{Needed: len(n.all)/2 + 1}
	more := true
	for _, one := range n.all {
		s := one.store.Load()
		err := *one.fault.Load()
		if s != nil {
			err = s.Scan(ctx, prefix, func(keys []string) bool {
				more = found(keys)
				return more
			})
		}
		switch {
		case !more:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			failed.Nodes = append(failed.Nodes, NodeError{Node: one.address})
			failed.Nodes[len(failed.Nodes)-1].fail(err)
		default:
			failed.Nodes = append(failed.Nodes, NodeError{Node: one.address, Outcome: NodeAnswered})
		}
	}
	if failed.count(NodeFailed)+failed.count(NodeLate) > len(n.all)/2 {
		return failed
	}
	return nil
}

// Watches tells whether all nodes do that are connected: otherwise polling has to stand in.
func (n *nodes) Watches() bool {
	for _, one := range n.all {
		if s := one.store.Load(); s != nil && !s.Watches() {
			return false
		}
	}
	return true
}

// Echoes is the same for all nodes that watch.
func (n *nodes) Echoes() bool {
	for _, one := range n.all {
		if s := one.store.Load(); s != nil && s.Echoes() {
			return true
		}
	}
	return false
}

func (n *nodes) Close() {
	n.end()
	n.work.Wait()
	var closing sync.WaitGroup
	for _, one := range n.all {
		if s := one.store.Load(); s != nil {
			closing.Go(s.Close)
		}
	}
	closing.Wait()
}
