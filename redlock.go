package ctxlock

import (
	"errors"
	"fmt"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock/store"
)

// RedlockOption configures a Locker on independent servers: see NewRedlock. The zero value of each field but Nodes is its default.
type RedlockOption struct {
	// LockerOption is as for NewLocker, but for two of its fields: there is one ClientOption for each of Nodes, so its own must be
	// zero, and KeyMajority follows from their number, so it is zero or that. ClientBuilder is called for each node, all at once, and
	// again when a node could not be connected to. A panic in it is that of NewRedlock, if that has not returned; later it ends the
	// program, as in any goroutine.
	LockerOption
	// Contention is as for New; there are no queues with independent nodes.
	Contention
	// Nodes are 2N-1 servers, or deployments with Sentinel, that do not know of each other, each with the options to connect to it. All
	// who are to exclude each other need the same, in the same order: key i of a lock lives on node i.
	Nodes []valkey.ClientOption
	// DriftFactor is the part of a validity that is left unused because clocks run at different rates; 5ms are added to it. At
	// most 0.5. Default: 0.05. (Redsync's is 0.01.)
	DriftFactor float64
	// TimeoutFactor is how long one node may take to answer, as a part of KeyValidity, in place of
	// TryNextAfter; below 1, and so large that it makes 1ms at least. Default: TryNextAfter's.
	// (Redsync's is 0.05.)
	TimeoutFactor float64
	// DelayedRestart keeps a node from being counted on for a lock that is not held yet until a validity has passed since it lost its data: since
	// it was restarted (which INFO tells, so the user needs permission for that), or emptied while this Locker was connected with tracking. By then
	// nobody believes in a lock that it has forgotten. The longest validity that this Locker has used counts. Without it, a node that lost its
	// data gives away again what it had given before, which may make a second majority. Default: false.
	DelayedRestart bool
}

// NewRedlock makes a Locker on 2N-1 independent servers, by the algorithm known as Redlock (https://valkey.io/topics/distlock): a lock is
// taken on all at once, and held while a majority stands by it. So it outlives the failure of any minority, without any
// replication that could lose it. Guarantee, margins and all calls are those of NewLocker.
//
// It returns once a majority of the nodes is connected and the others have had a quarter of a second more, or the error of
// each (a *QuorumError) if no majority can be. Nodes that cannot be reached are tried again in the background, at least every 5s.
//
// Calls that fail because no majority was to be had, or answered, return a *QuorumError, which says what each node said. Client returns nil.
func NewRedlock(option RedlockOption) (Locker, error) {
	settled, d, err := option.settled()
	if err != nil {
		return nil, store.Permanent(err)
	}
	contention, err := option.Contention.settled()
	if err != nil {
		return nil, store.Permanent(err)
	}
	n, err := openNodes(option, settled, d)
	if err != nil {
		return nil, err
	}
	return newLocker(n, settled, contention, d), nil
}

// settled checks the option and gives what the engine goes by.
func (o RedlockOption) settled() (LockerOption, drift, error) {
	majority := int32(len(o.Nodes)+1) / 2
	fail := func(format string, args ...any) (LockerOption, drift, error) {
		return LockerOption{}, 0, fmt.Errorf("ctxlock: "+format, args...)
	}
	switch {
	case len(o.Nodes) == 0:
		return fail("RedlockOption.Nodes is empty")
	case len(o.Nodes)%2 == 0:
		return fail("RedlockOption.Nodes are %d, not an odd number: the last would add nothing but a way to fail", len(o.Nodes))
	case o.KeyMajority != 0 && o.KeyMajority != majority:
		return fail("KeyMajority is %d, and the majority of %d nodes is %d", o.KeyMajority, len(o.Nodes), majority)
	case describesServer(o.ClientOption):
		return fail("RedlockOption has both a ClientOption and Nodes: what it says belongs in each of Nodes")
	case !(o.DriftFactor >= 0 && o.DriftFactor <= 0.5): // nor NaN
		return fail("DriftFactor is %v, not from 0 to 0.5%s", o.DriftFactor, percent(o.DriftFactor, 0.5))
	case !(o.TimeoutFactor >= 0 && o.TimeoutFactor < 1):
		return fail("TimeoutFactor is %v, not from 0 to below 1%s", o.TimeoutFactor, percent(o.TimeoutFactor, 1))
	case o.TimeoutFactor > 0 && o.TryNextAfter > 0:
		return fail("RedlockOption has both TimeoutFactor and TryNextAfter")
	}
	if err := distinct(o.Nodes); err != nil {
		return LockerOption{}, 0, err
	}
	for i, node := range o.Nodes {
		if err := checkAddresses(fmt.Sprintf("RedlockOption.Nodes[%d]", i), node, o.ClientBuilder != nil); err != nil {
			return LockerOption{}, 0, err
		}
	}
	d := defaultDrift
	if o.DriftFactor > 0 {
		d = drift(o.DriftFactor)
	}
	o.KeyMajority = majority
	settled, err := o.LockerOption.settledWith(d)
	if err != nil {
		return LockerOption{}, 0, err
	}
	if o.TimeoutFactor > 0 {
		settled.TryNextAfter = scale(settled.KeyValidity, o.TimeoutFactor)
		if settled.TryNextAfter < minAttemptTimeout {
			return fail("TimeoutFactor is %v, which of KeyValidity %v makes %v: it has to make %v at least",
				o.TimeoutFactor, settled.KeyValidity, settled.TryNextAfter, minAttemptTimeout)
		}
	}
	return settled, d, nil
}

// percent asks about a factor that would be in bounds if it had been meant as a percentage.
func percent(factor, below float64) string {
	if factor >= 1 && factor/100 < below {
		return fmt.Sprintf(": did you mean %v?", factor/100)
	}
	return ""
}

// describesServer tells whether somebody has described a server where that has no effect.
func describesServer(o valkey.ClientOption) bool {
	return len(o.InitAddress) > 0 || o.Username != "" || o.Password != "" || o.AuthCredentialsFn != nil || o.TLSConfig != nil ||
		o.Sentinel.MasterSet != "" || o.SelectDB != 0 || o.DisableCache || o.DialCtxFn != nil
}

// distinct finds nodes that are not described, and those that are the same server twice, which would have two votes.
func distinct(nodes []valkey.ClientOption) error {
	seen := make(map[string]int)
	for i, node := range nodes {
		if len(node.InitAddress) == 0 {
			return fmt.Errorf("ctxlock: RedlockOption.Nodes[%d] has no InitAddress", i)
		}
		if node.ReplicaOnly {
			return errors.New("ctxlock: ClientOption.ReplicaOnly: locks are kept on primaries")
		}
		if err := checkClient(fmt.Sprintf("RedlockOption.Nodes[%d]", i), node); err != nil {
			return err
		}
		if node.Sentinel.MasterSet != "" {
			continue // the same sentinels may watch several
		}
		for _, address := range node.InitAddress {
			if first, again := seen[address]; again {
				return fmt.Errorf("ctxlock: RedlockOption.Nodes[%d] and [%d] are the same: %s", first, i, address)
			}
			seen[address] = i
		}
	}
	return nil
}
