package ctxlock

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// Status is what the servers say about a name at one moment.
type Status struct {
	// Name is the lock's name.
	Name string
	// Held tells whether a majority of its keys has one owner value. The fields below it, up to Waiting, are zero otherwise.
	Held bool
	// Value is the owner value of the holder, as Lock.Value gives it. ctxlock's begin with "ctxlock/".
	Value string
	// Metadata is what the holder keeps beside it.
	Metadata string
	// Since is when the holder's call began that took the lock, by the clock of its own process: for one who had to wait that is about when it began to
	// wait, and for locks that are handed on within a process, the call of the first of them. It is zero for holders of another kind.
	Since time.Time
	// TTL is how long the lock is still taken unless it is extended; math.MaxInt64 nanoseconds if its keys do not run out.
	TTL time.Duration
	// Until is the same as a time of this process's clock, zero if the keys do not run out.
	Until time.Time
	// Waiting is how many calls wait for the lock, in all processes that use ctxlock with permission for the list of
	// waiters: those that have waited for a quarter of a second or longer. Those of a process that crashed count for up to 45s.
	Waiting int
}

// Look is described at Locker.
func (k *locker) Look(ctx context.Context, name string) (Status, error) {
	if err := checkCall(ctx, name); err != nil {
		return Status{}, err
	}
	if ctx.Err() != nil {
		return Status{}, ctxError(ctx, name, nil)
	}
	all, err := k.lookFor(ctx, []string{name}, func(error) bool { return false })
	if err != nil {
		return Status{}, err
	}
	return all[0], nil
}

// List is described at Locker.
func (k *locker) List(ctx context.Context) iter.Seq2[Status, error] {
	return func(yield func(Status, error) bool) {
		if ctx == nil {
			yield(Status{}, errNilContext)
			return
		}
		seen := make(map[string]struct{})
		more, failed := true, error(nil)
		err := k.scan(ctx, func(keys []string) bool {
			var names []string
			for _, key := range keys {
				name, _, wake, ok := parseKey(k.prefix, key, k.keys())
				if _, again := seen[name]; ok && !wake && !again {
					seen[name] = struct{}{}
					names = append(names, name)
				}
			}
			for some := range slices.Chunk(names, batchSize/k.keys()+1) {
				var all []Status
				if all, failed = k.lookFor(ctx, some, skipStrangers); failed != nil {
					return false
				}
				for _, status := range all {
					if more = !status.Held || yield(status, nil); !more {
						return false
					}
				}
			}
			return true
		})
		if failed != nil {
			err = failed
		}
		if err != nil && more {
			yield(Status{}, err)
		}
	}
}

// scan goes through the keys of all locks, for as long as the locker lives.
func (k *locker) scan(ctx context.Context, found func(keys []string) bool) error {
	// Without a place in k.work, because found calls the caller's code, which may take its time, or close the locker.
	asked, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(k.life, cancel)()
	if k.life.Err() != nil {
		return ErrLockerClosed
	}
	err := k.store.Scan(asked, k.prefix+":", found)
	switch {
	case err == nil:
		return nil
	case k.life.Err() != nil:
		return ErrLockerClosed
	case ctx.Err() != nil:
		return unanswered(ctx, k.prefix)
	}
	return fmt.Errorf("ctxlock: the names under %s: %w", quote(k.prefix), err)
}

// enter takes a place in k.work. It reports false once the locker is closed.
func (k *locker) enter() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		return false
	}
	k.work.Add(1)
	return true
}

// skipStrangers tells errors of keys that are no lock's at all, though they have the name of one.
func skipStrangers(err error) bool { return strings.HasPrefix(refusalOf(err), "WRONGTYPE") }

// lookFor asks about some names, all at once. An error that skip knows makes its name one that is not held.
func (k *locker) lookFor(ctx context.Context, names []string, skip func(error) bool) ([]Status, error) {
	if !k.enter() {
		return nil, ErrLockerClosed
	}
	defer k.work.Done()
	asked, cancel := context.WithTimeoutCause(ctx, k.patience.now(), errNoAnswer)
	defer cancel()
	defer context.AfterFunc(k.life, cancel)()
	n := k.keys()
	ops := make([]store.Op, 0, len(names)*n)
	lists := make([]store.Op, 0, len(names))
	for _, name := range names {
		for i := range n {
			ops = append(ops, store.Op{Key: keyOf(k.prefix, i, name)})
		}
		lists = append(lists, store.Op{Key: listKeyOf(k.prefix, name)})
	}
	counted := make(chan struct{})
	k.work.Go(func() { // the caller has a place in work
		defer close(counted)
		k.onLanes(lists, func(ops []store.Op) { k.store.Waiting(asked, ops) })
	})
	k.onMajority(ops, majorityRequest{send: func(ops []store.Op) { k.store.Read(asked, ops) }, decided: k.agreed})
	waiting := k.waitingBy(counted, lists)
	all := make([]Status, len(names))
	for i, name := range names {
		status, err := k.status(name, ops[i*n:(i+1)*n])
		switch {
		case err == nil || skip(err):
		case k.life.Err() != nil:
			return nil, ErrLockerClosed
		case ctx.Err() != nil:
			return nil, unanswered(ctx, name)
		default:
			return nil, fmt.Errorf("ctxlock: %s: %w", quote(name), err)
		}
		status.Waiting = waiting[i]
		all[i] = status
	}
	return all, nil
}

// waitingBy gives how many wait for each name. What could not be read counts as none: a node that does not answer, or no permission
// for scripts.
func (k *locker) waitingBy(counted <-chan struct{}, lists []store.Op) []int {
	waiting := make([]int, len(lists))
	timer := time.NewTimer(max(leastGrace, k.patience.trips(2)))
	defer timer.Stop()
	select {
	case <-counted:
		for i := range lists {
			if lists[i].Err == nil {
				waiting[i] = int(lists[i].Waiting)
			}
		}
	case <-timer.C:
	}
	return waiting
}

// status makes out who holds a name, if anybody does, from the answers about its keys.
func (k *locker) status(name string, ops []store.Op) (Status, error) {
	answered := 0
	left := make(map[string][]time.Duration) // by what the keys have for a value
	for i := range ops {
		op := &ops[i]
		if op.Err != nil {
			continue
		}
		answered++
		if op.Holder != "" {
			left[op.Holder] = append(left[op.Holder], op.TTL)
		}
	}
	status := Status{Name: name}
	for stored, ttls := range left {
		need := k.majority
		if its := majorityOf(stored); its != 0 { // a misconfigured fleet looks, too
			need = min(need, its)
		}
		if len(ttls) < need {
			continue
		}
		slices.Sort(ttls)
		status.Held = true
		status.TTL = ttls[len(ttls)-need]
		if status.TTL != store.Forever {
			status.Until = time.Now().Add(status.TTL)
		}
		status.Value, status.Metadata = splitOwner(strings.TrimPrefix(stored, store.Unnamed))
		status.Since = sinceOf(status.Value)
		return status, nil
	}
	if answered < k.majority {
		return status, k.unread(name, ops)
	}
	return status, nil
}
