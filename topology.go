package ctxlock

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valkey-io/valkey-go"
)

// clusterLanes is how many lanes there are for the nodes of a cluster. Larger clusters have some nodes share one.
const clusterLanes = 64

// topology knows which slots of a cluster are on one node, so that what travels together goes to one node, and a node that stalls
// does not hold up what is on the others. The client keeps a map of its own, which it does not show, and by which it sends;
// if this one is out of date, requests are still right, only less well grouped.
type topology struct {
	lanes atomic.Pointer[[clusterSlots]uint8] // nil until learned

	mu      sync.Mutex
	nodes   map[string]uint8 // lanes by node, kept for as long as the store lives
	primary map[string]bool  // addresses of primaries; empty until learned
	learned time.Time        // when it was last tried
	work    sync.WaitGroup
}

// relearnAfter is how often the cluster is asked at the most.
const relearnAfter = time.Second

// lane is the lane of a slot. Before anything is known, slots next to each other share one.
func (t *topology) lane(slot int) int {
	if lanes := t.lanes.Load(); lanes != nil {
		return int(lanes[slot])
	}
	return slot / (clusterSlots / clusterLanes)
}

// relearn has the topology learned in the background, unless that was just done.
func (t *topology) relearn(client valkey.Client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.learned) < relearnAfter {
		return
	}
	t.learned = time.Now()
	t.work.Go(func() { t.refresh(client) })
}

// refresh learns once, if there is an answer: the next that needs it asks again.
func (t *topology) refresh(client valkey.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	_ = t.learn(ctx, client)
}

// learn asks a node of the cluster. Without an answer, or without permission, all stays as it was, and its error says why.
func (t *topology) learn(ctx context.Context, client valkey.Client) error {
	ranges, err := client.Do(ctx, client.B().ClusterSlots().Build()).ToArray()
	if err != nil {
		return err
	}
	if len(ranges) == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	lanes := new([clusterSlots]uint8)
	primary := make(map[string]bool)
	for _, r := range ranges {
		parts, err := r.ToArray() // first slot, last slot, primary, replicas
		if err != nil || len(parts) < 3 {
			return errStrange
		}
		first, err := parts[0].AsInt64()
		last, err2 := parts[1].AsInt64()
		node, err3 := parts[2].ToArray() // host, port, ...
		if err != nil || err2 != nil || err3 != nil || len(node) < 2 || first < 0 || last >= clusterSlots {
			return errStrange
		}
		lane := t.laneOf(fmt.Sprint(node[0].String(), node[1].String()))
		host, _ := node[0].ToString()
		if port, err := node[1].AsInt64(); err == nil && host != "" {
			primary[net.JoinHostPort(host, strconv.FormatInt(port, 10))] = true
		}
		for slot := first; slot <= last; slot++ {
			lanes[slot] = lane
		}
	}
	t.lanes.Store(lanes)
	t.primary = primary
	return nil
}

// isPrimary tells whether a node, by its address, has keys of its own. Where that is not known, each does.
func (t *topology) isPrimary(address string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.primary) == 0 || t.primary[address]
}

// laneOf gives a node its lane. Under t.mu.
func (t *topology) laneOf(node string) uint8 {
	if t.nodes == nil {
		t.nodes = make(map[string]uint8)
	}
	lane, known := t.nodes[node]
	if !known {
		lane = uint8(len(t.nodes) % clusterLanes)
		t.nodes[node] = lane
	}
	return lane
}
