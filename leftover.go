package ctxlock

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// leftover is what an attempt that was given up, or a release that was not confirmed, may have left on one lane. Upkeep
// sweeps it until the store has confirmed that it is gone or until it must have run out by itself.
type leftover struct {
	name  string
	lane  int
	ops   []store.Op
	until time.Duration // by then nothing is left of it
	due   time.Duration // when to sweep next
	pause time.Duration // how long to wait after that
	place int           // index in the queue; offAgenda while it is being swept, or waits for its lane
	over  bool          // it is out of the books
	// late tells that a claim was not answered, so that it may still be on its way: one confirmed sweep is not enough, unless it is of
	// the claim's stream.
	late   bool
	stream int64
}

const (
	// sweepTime is how long a sweep waits for its answers. Nobody waits for the sweep, so it is longer than any attempt.
	sweepTime       = 5 * time.Second
	sweepGrid       = 50 * time.Millisecond
	firstSweepPause = 20 * time.Millisecond
	// The longest pause is a quarter of the validity, so that what comes late is swept before it runs out by itself, within these
	// bounds: leftovers pile up while a server is silent, and must not become a burden when it is back.
	leastLongPause, mostLongPause = 250 * time.Millisecond, 5 * time.Second
	// lateFor is how much longer than its validity a claim that was never answered is watched for. It may lie in the buffers of a
	// connection that stalls, and valkey-go gives such a connection up after 10 s.
	lateFor = 15 * time.Second
)

// leave books what may be left of a lock, and has it swept at once. until is when its keys will have run out.
func (k *locker) leave(name string, ops []store.Op, until time.Duration) {
	if len(ops) == 0 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, group := range laneGroups(k.store, ops) {
		rest := &leftover{name: name, lane: k.store.Lane(ops[group[0]].Key), ops: pick(ops, group), until: until, due: k.now(), pause: firstSweepPause}
		rest.late, rest.stream = anyUnknown(rest.ops), streamOf(rest.ops)
		if rest.late {
			rest.until += lateFor
		}
		k.leftovers[rest] = struct{}{}
		heap.Push(&k.sweepQueue, rest)
		k.remains[rest.ops[0].Owner]++
	}
	k.kickLocked()
}

// isRemains tells whether an owner value is that of a leftover, or was a moment ago. Under k.mu.
func (k *locker) isRemains(owner string) bool { return k.remains[owner] > 0 }

// forget takes a leftover out of the books. Under k.mu.
func (k *locker) forget(rest *leftover) {
	delete(k.leftovers, rest)
	rest.over = true
	if rest.place != offAgenda {
		heap.Remove(&k.sweepQueue, rest.place)
	}
	k.notRemains(rest.ops[0].Owner)
}

// sweptOwner is an owner value of a leftover that is gone. Answers that were on their way by then may
// still tell of it, and what they tell of is nobody's.
type sweptOwner struct {
	owner string
	until time.Duration
}

// stillToldOf keeps an owner value among the remains for as long as an attempt may take. Under k.mu.
func (k *locker) stillToldOf(owner string) {
	k.remains[owner]++
	k.sweptOwners = append(k.sweptOwners, sweptOwner{owner, k.now() + k.patience.now()})
}

// forgetSwept takes owner values of which no answer tells any more out of the books, and tells when
// that is of the next. Under k.mu.
func (k *locker) forgetSwept(now time.Duration) (next time.Duration) {
	n := 0
	for n < len(k.sweptOwners) && k.sweptOwners[n].until <= now {
		k.notRemains(k.sweptOwners[n].owner)
		n++
	}
	if k.sweptOwners = k.sweptOwners[n:]; len(k.sweptOwners) == 0 {
		k.sweptOwners = nil
		return never
	}
	return k.sweptOwners[0].until
}

// notRemains counts an owner value once less among the remains. Under k.mu.
func (k *locker) notRemains(owner string) {
	if k.remains[owner]--; k.remains[owner] == 0 {
		delete(k.remains, owner)
	}
}

// dueSweeps hands the leftovers that are due to the sweeps of their lanes, and tells when the next one is. Under k.mu.
func (k *locker) dueSweeps(now, next time.Duration) time.Duration {
	for len(k.sweepQueue) > 0 {
		rest := k.sweepQueue[0]
		if rest.due > now {
			return min(next, rest.due)
		}
		heap.Pop(&k.sweepQueue)
		if now > rest.until {
			k.forget(rest)
			continue
		}
		lane := k.sweeps[rest.lane]
		if lane == nil {
			lane = &laneSweep{}
			k.sweeps[rest.lane] = lane
		}
		lane.waiting = append(lane.waiting, rest)
		if !lane.running {
			lane.running = k.spawnLocked(func() { k.sweep(lane) })
		}
	}
	return next
}

// laneSweep is what is to be swept of one lane. There is one sweep at a time, so that a node that does not answer gathers no more than
// what is to be asked of it. Under k.mu.
type laneSweep struct {
	waiting []*leftover
	running bool
}

// sweep releases leftovers of one lane until none are waiting, and books what came of it.
func (k *locker) sweep(lane *laneSweep) {
	for {
		k.mu.Lock()
		some := lane.waiting[:min(len(lane.waiting), batchSize)]
		lane.waiting = lane.waiting[len(some):]
		var asked []*leftover
		var ops []store.Op
		for _, rest := range some {
			if !rest.over {
				asked, ops = append(asked, rest), append(ops, rest.ops...)
			}
		}
		lane.running = len(some) > 0
		k.mu.Unlock()
		if len(some) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(k.life, sweepTime)
		k.clean(ctx, ops)
		cancel()
		k.mu.Lock()
		for _, rest := range asked {
			if !rest.over {
				k.swept(rest, ops[:len(rest.ops)])
			}
			ops = ops[len(rest.ops):]
		}
		k.kickLocked()
		k.mu.Unlock()
	}
}

// swept books the answers to one sweep of a leftover. Under k.mu.
func (k *locker) swept(rest *leftover, answers []store.Op) {
	if len(unconfirmed(answers)) == 0 && (!rest.late || rest.stream != 0 && rest.stream == streamOf(answers)) {
		k.stillToldOf(rest.ops[0].Owner)
		k.forget(rest)
		if c := k.contention[rest.name]; c != nil {
			c.swept = k.now()
		}
		if queue := k.lines[rest.name]; queue != nil {
			queue.signal(true)
		}
		return
	}
	rest.due = k.now() + rest.pause
	if rest.pause > sweepGrid { // so that many are due at once, and go out together
		rest.due = rest.due.Truncate(sweepGrid) + sweepGrid
	}
	rest.pause = min(2*rest.pause, max(leastLongPause, min(k.terms.validity/4, mostLongPause)))
	heap.Push(&k.sweepQueue, rest)
}

// streamOf is the stream of requests that have one in common; zero if they have not.
func streamOf(ops []store.Op) int64 {
	for i := range ops {
		if ops[i].Stream != ops[0].Stream {
			return 0
		}
	}
	return ops[0].Stream
}

// sweepQueue is a heap of leftovers, the one that is due first in front.
type sweepQueue []*leftover

// Len, Less, Swap, Push and Pop are for package heap.
func (q sweepQueue) Len() int           { return len(q) }
func (q sweepQueue) Less(i, j int) bool { return q[i].due < q[j].due }

func (q sweepQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

func (q *sweepQueue) Push(x any) {
	rest := x.(*leftover)
	rest.place = len(*q)
	*q = append(*q, rest)
}

func (q *sweepQueue) Pop() any {
	last := len(*q) - 1
	rest := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	rest.place = offAgenda
	return rest
}

// sweepName sweeps the leftovers of one name now, waits for what is being given back, and reports whether all of that was confirmed in time.
func (k *locker) sweepName(ctx context.Context, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, k.patience.now())
	defer cancel()
	defer context.AfterFunc(k.life, cancel)()
	k.mu.Lock()
	var ops []store.Op
	for rest := range k.leftovers {
		if rest.name == name {
			ops = append(ops, rest.ops...)
		}
	}
	var under []*giveBack
	for g := range k.givenBack {
		if g.name == name {
			under = append(under, g)
		}
	}
	k.mu.Unlock()
	k.onLanes(ops, func(ops []store.Op) { k.clean(ctx, ops) })
	return len(unconfirmed(ops)) == 0 && awaitAll(ctx, under)
}

// letGo releases keys of any lanes, all lanes at once, and returns when each has its answer or ctx has ended.
func (k *locker) letGo(ctx context.Context, ops []store.Op) {
	k.onLanes(ops, func(ops []store.Op) { k.release(ctx, ops) })
}

// onLanes makes a request for keys of any lanes, all lanes at once, and returns when each has returned.
func (k *locker) onLanes(ops []store.Op, request func([]store.Op)) {
	groups := byLane(k.store, ops)
	if groups == nil {
		request(ops)
		return
	}
	var lanes sync.WaitGroup
	for _, indexes := range groups {
		lanes.Go(func() {
			asked := pick(ops, indexes)
			request(asked)
			for j, i := range indexes {
				ops[i] = asked[j]
			}
		})
	}
	lanes.Wait()
}

// release releases keys of one lane. If the connection breaks, it asks once more on a new one: releasing twice does no harm.
func (k *locker) release(ctx context.Context, ops []store.Op) {
	if len(ops) == 0 {
		return
	}
	k.store.Release(ctx, ops)
	if !anyUnknown(ops) || ctx.Err() != nil {
		return
	}
	found := make([]bool, len(ops))
	for i := range ops {
		found[i] = ops[i].Found || ops[i].Unknown
	}
	k.store.Release(ctx, ops)
	for i := range ops {
		ops[i].Found = ops[i].Found || found[i] // if it is not there now, it was the first request that deleted it
	}
}

// byLane groups ops, by their indexes, by the lanes that they travel on. Nil means that one lane takes them all.
func byLane(s store.Store, ops []store.Op) [][]int {
	for i := 1; i < len(ops); i++ {
		if s.Lane(ops[i].Key) != s.Lane(ops[0].Key) {
			return laneGroups(s, ops)
		}
	}
	return nil
}

func laneGroups(s store.Store, ops []store.Op) [][]int {
	var groups [][]int
	at := make(map[int]int)
	for i := range ops {
		lane := s.Lane(ops[i].Key)
		g, ok := at[lane]
		if !ok {
			g = len(groups)
			at[lane] = g
			groups = append(groups, nil)
		}
		groups[g] = append(groups[g], i)
	}
	return groups
}

// pick copies the ops with these indexes.
func pick(ops []store.Op, indexes []int) []store.Op {
	picked := make([]store.Op, len(indexes))
	for j, i := range indexes {
		picked[j] = ops[i]
	}
	return picked
}
