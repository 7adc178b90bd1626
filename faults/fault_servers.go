package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ctxlock/ctxlock/internal/lab"
)

// Faults that need more than one step on the servers.

// killedAndKept is a server that comes back as it was.
var killedAndKept = blocking(onMachines("server killed", quietly(machine.Kill), machine.Restart))

// losePower kills the server and takes from its log what came after the last time that it was made sure to be on the disk.
func losePower(r *run) error {
	size, err := r.logSize()
	if err != nil {
		return err
	}
	synced := time.Now()
	if _, err := r.grip(3 * validity); err != nil { // after that, so nothing on the disk tells of this holder
		return err
	}
	if time.Since(synced) > everySecond {
		return fmt.Errorf("somebody got the lock after %v only: that is no fault of the server", time.Since(synced))
	}
	_, err = r.strike(powerLost(size), everyClient)
	if err != nil {
		return err
	}
	r.keepGripping(validity)
	return nil
}

func powerLost(size int64) *blow {
	return &blow{name: "power lost", blocks: true, do: func(r *run, _ int) (func(), error) {
		file, err := r.logFile()
		if err != nil {
			return nil, err
		}
		server := r.site.servers[0]
		server.Kill()
		if err := os.Truncate(file, size); err != nil {
			return nil, err
		}
		return nil, server.Restart()
	}}
}

// logFile is where the server writes its commands to.
func (r *run) logFile() (string, error) {
	reply, err := r.site.servers[0].Do("CONFIG", "GET", "dir")
	if err != nil {
		return "", err
	}
	pair, ok := reply.([]any)
	if !ok || len(pair) != 2 {
		return "", fmt.Errorf("CONFIG GET dir says %v", reply)
	}
	found, err := filepath.Glob(filepath.Join(pair[1].(string), "appendonlydir", "*.incr.aof"))
	if err != nil || len(found) == 0 {
		return "", errors.Join(errors.New("the server keeps no log"), err)
	}
	return found[len(found)-1], nil
}

func (r *run) logSize() (int64, error) {
	file, err := r.logFile()
	if err != nil {
		return 0, err
	}
	info, err := os.Stat(file)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// onNode has a blow befall one of three independent nodes while the lock is held, and the next one when that is mended.
func onNode(blowOf func(node int) *blow) func(*run) error {
	return func(r *run) error {
		if _, err := r.grip(3 * validity); err != nil {
			return err
		}
		return r.suffer(blowOf(r.roll(len(r.site.machines))), everyClient, validity*3/2, 2*validity)
	}
}

func nodeFrozen(node int) *blow {
	return onNodes("a node frozen", quietly(machine.Freeze), quietly(machine.Thaw), node)
}

func nodeKilled(node int) *blow {
	return onNodes("a node restarted empty", func(m machine) error { m.Kill(); return m.Restart() }, quietly(func(machine) {}), node)
}

var twoFrozen = blocking(onNodes("two nodes frozen", quietly(machine.Freeze), quietly(machine.Thaw), 0, 1))

func onNodes(name string, do, undo func(machine) error, nodes ...int) *blow {
	return &blow{name: name, sites: []Kind{Nodes}, do: func(r *run, _ int) (func(), error) {
		for _, n := range nodes {
			if err := do(r.site.machines[n]); err != nil {
				return nil, err
			}
		}
		return func() {
			for _, n := range nodes {
				_ = undo(r.site.machines[n])
			}
		}, nil
	}}
}

// migrate moves all slots that have a key of the lock to another primary, twice.
func migrate(r *run) error {
	for range 2 {
		if _, err := r.grip(validity * 3 / 2); err != nil {
			return err
		}
		mend, err := r.strike(slotsMoved, everyClient)
		if err != nil {
			return err
		}
		mend()
		r.pause(validity, validity*3/2)
	}
	return nil
}

var slotsMoved = &blow{name: "slots moved", blocks: true, sites: []Kind{Cluster}, do: func(r *run, _ int) (func(), error) {
	keys, err := r.site.keys()
	if err != nil {
		return nil, err
	}
	moved := make(map[int]bool)
	for key := range keys {
		slot, err := r.site.cluster.Slot(key)
		if err != nil {
			return nil, err
		}
		if moved[slot] {
			continue
		}
		moved[slot] = true
		if err := r.moveSlot(slot, key); err != nil {
			return nil, err
		}
	}
	return nil, nil
}}

// moveSlot moves a slot to the next primary.
func (r *run) moveSlot(slot int, key string) error {
	c := r.site.cluster
	from, err := c.Primary(key)
	if err != nil {
		return err
	}
	for _, node := range c.Nodes {
		info, err := node.Info("replication")
		if err == nil && info["role"] == "master" && node != from {
			return c.MoveSlot(slot, node)
		}
	}
	return errors.New("there is no other primary")
}

// failOverSentinel kills the primary when its replica has not heard of it for a while.
func failOverSentinel(r *run) error {
	s := r.site.sentinel
	primary, err := s.Primary()
	if err != nil {
		return err
	}
	for _, replica := range s.Data {
		if replica != primary {
			return r.failOver(primary, replica, func() error { _, err := s.AwaitFailover(primary); return err })
		}
	}
	return errors.New("there is no replica")
}

// failOverCluster does it to the node that has the lock.
func failOverCluster(r *run) error {
	key, err := r.lockKey()
	if err != nil {
		return err
	}
	c := r.site.cluster
	primary, err := c.Primary(key)
	if err != nil {
		return err
	}
	replica, err := replicaOf(primary, c.Nodes)
	if err != nil {
		return err
	}
	return r.failOver(primary, replica, func() error { _, err := c.AwaitFailover(key, primary); return err })
}

// lockKey is a key that the lock has while somebody holds it.
func (r *run) lockKey() (string, error) {
	if _, err := r.grip(validity / 4); err != nil {
		return "", err
	}
	keys, err := r.site.keys()
	for key := range keys {
		if r.who.Own == nil || r.who.Own(key) {
			return key, nil
		}
	}
	return "", errors.Join(errors.New("the lock is held, and there is no key"), err)
}

// replicaOf finds the replica of a primary.
func replicaOf(primary *lab.Server, nodes []*lab.Server) (*lab.Server, error) {
	for _, node := range nodes {
		info, err := node.Info("replication")
		if err != nil || info["role"] != "slave" {
			continue
		}
		port, err := strconv.Atoi(info["master_port"])
		if err == nil && primary.Addr() == "127.0.0.1:"+strconv.Itoa(port) {
			return node, nil
		}
	}
	return nil, errors.New("the primary has no replica")
}

// failOver cuts the replica off, so that it does not hear of the next holder, kills the primary and waits for the replica to take its place.
func (r *run) failOver(primary, replica *lab.Server, await func() error) error {
	replica.Freeze()
	if _, err := primary.Do("CLIENT", "KILL", "TYPE", "replica"); err != nil {
		replica.Thaw()
		return err
	}
	_, err := r.grip(4 * validity)
	if err != nil {
		replica.Thaw()
		return err
	}
	mend, err := r.strike(&blow{name: "failover", blocks: true, do: func(*run, int) (func(), error) {
		primary.Kill()
		replica.Thaw()
		return func() {}, nil // it is mended when the replica has taken over
	}}, everyClient)
	if err != nil {
		return err
	}
	if err := await(); err != nil {
		return err
	}
	mend()
	r.keepGripping(validity)
	return nil
}
