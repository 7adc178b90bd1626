package memlock

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// standing is how one stands in a queue.
type standing struct {
	owner    string
	rank     int64
	epoch    int32
	validity time.Duration
	fenced   bool
	inbox    *connection
}

// queueLife is how long a queue lives when nobody comes to it.
const queueLife = time.Minute

// OpenQueue has the locker take word of queues. They are always allowed.
func (c *connection) OpenQueue(id string, _ func(error)) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.inbox = id
}

// Queues is for locks whose keys are on one lane.
func (c *connection) Queues() int {
	switch {
	case c.inbox == "":
		return 0
	case c.server.option.Lanes > 1:
		return 1
	}
	return math.MaxInt
}

// together counts the ops at the beginning that are the keys of one lock, and to be carried out at one instant.
func together(ops []store.Op) int {
	n := 1
	for n < len(ops) && ops[n].Queue != "" && ops[n].Queue == ops[0].Queue && ops[n].Owner == ops[0].Owner {
		n++
	}
	return n
}

// claims carries out claims of the keys of one lock.
func (st *step) claims(ops []store.Op) {
	if ops[0].Queue == "" {
		each((*step).claim)(st, ops)
		return
	}
	if st.available(ops) > len(ops)/2 && !st.yields(ops) && !st.barred(ops) {
		st.quit(&ops[0], ops[0].Epoch)
		free := true
		for i := range ops {
			if e, found := st.get(ops[i].Key); found && e.value == ops[i].Owner {
				free = false
			}
		}
		for i := range ops {
			if e, found := st.get(ops[i].Key); found && e.value != ops[i].Owner {
				ops[i].Holder, ops[i].TTL = holder(e), st.left(e)
				continue
			}
			st.claim(&ops[i])
		}
		st.settleTokens(ops)
		if free {
			st.callRoll(&ops[0], ops[0].Call)
		}
		return
	}
	st.stand(ops)
}

// freeMark begins the key that is there while claims from the queue take nothing, for mostYield at the longest.
const (
	freeMark  = "y:"
	mostYield = 100 * time.Millisecond
)

// callMark begins the key that is there while the roll is not called.
const callMark = "x:"

// callRoll removes all places and has those who stood in them look, unless that was done just now, or the lock was left free on purpose.
func (st *step) callRoll(op *store.Op, pause time.Duration) {
	queue, mark := st.queue(op.Queue), callMark+op.Queue
	if _, found := st.get(mark); found || op.Call <= 0 || len(queue) == 0 {
		return
	}
	st.set(mark, "1", pause)
	st.setQueue(op.Queue, nil)
	for _, s := range queue {
		if !s.inbox.gone {
			st.owed = append(st.owed, notice{s.inbox, store.Event{Key: op.Key, Word: store.Called}})
		}
	}
}

// yields tells whether the keys are for those who do not stand in the queue.
func (st *step) yields(ops []store.Op) bool {
	for i := range ops {
		if e, found := st.get(ops[i].Key); found && e.value == ops[i].Owner {
			return false
		}
	}
	e, found := st.get(freeMark + ops[0].Queue)
	return found && st.left(e) <= mostYield
}

// available counts the keys that are free, or the claimant's own.
func (st *step) available(ops []store.Op) (n int) {
	for i := range ops {
		if e, found := st.get(ops[i].Key); !found || e.value == ops[i].Owner {
			n++
		}
	}
	return n
}

// barred tells whether one of the keys is of a locker with another majority, or one of the first N of valkeylock, though a majority is available. Those
// who have the lock already are not kept out.
func (st *step) barred(ops []store.Op) bool {
	own, barred := 0, false
	for i := range ops {
		e, found := st.get(ops[i].Key)
		switch {
		case !found:
		case e.value == ops[i].Owner:
			own++
		case st.bars(e.value, i, len(ops)):
			barred = true
		}
	}
	return barred && own <= len(ops)/2
}

// bars tells whether one of n keys keeps others out of the lock by what it has.
func (st *step) bars(value string, i, n int) bool {
	if !strings.HasPrefix(value, "ctxlock/") {
		return len(value) == 24 && 2*i+1 <= n
	}
	return n > 1 && otherMajority(value, n)
}

// otherMajority tells whether an owner value is of a locker whose locks do not have n keys.
func otherMajority(value string, n int) bool {
	locker, _, _ := strings.Cut(strings.TrimPrefix(value, "ctxlock/"), "/")
	_, rest, _ := strings.Cut(locker, "~")
	digits, _, _ := strings.Cut(rest, ".")
	majority, err := strconv.Atoi(digits)
	return err == nil && 2*majority-1 != n
}

// settleTokens gives all counters of a lock the greatest token of them.
func (st *step) settleTokens(ops []store.Op) {
	var greatest int64
	for i := range ops {
		greatest = max(greatest, ops[i].Token)
	}
	for i := range ops {
		if ops[i].Counter != "" && ops[i].Err == nil && ops[i].Mine() {
			ops[i].Token = greatest
			st.setCounter(&ops[i], greatest)
		}
	}
}

// stand puts the claimant into the queue, or leaves it where it stands.
func (st *step) stand(ops []store.Op) {
	op := &ops[0]
	queue := st.queue(op.Queue)
	at := slices.IndexFunc(queue, func(s standing) bool { return stands(s, op, op.Epoch) })
	s := standing{op.Owner, 0, op.Epoch, op.Validity, op.Fenced, st.by}
	if at >= 0 {
		s.rank = queue[at].rank
		queue[at] = s
	} else {
		s.rank = st.rank(queue, op.Return)
		at = len(queue)
		for at > 0 && queue[at-1].rank > s.rank {
			at--
		}
		queue = slices.Insert(queue, at, s)
	}
	op.Rank = s.rank
	st.setQueue(op.Queue, queue)
	var met string
	for i := range ops {
		ops[i].Queued = true
		if e, found := st.get(ops[i].Key); found {
			ops[i].Holder = holder(e)
			if e.value != op.Owner {
				met = e.value
			}
			if op.Timed {
				ops[i].TTL = st.left(e)
			}
		} else if e, found := st.get(freeMark + op.Queue); found {
			ops[i].Holder, ops[i].TTL = store.Unnamed, st.left(e)
		}
	}
	if back := op.Return > 0 || op.Settled > 0; at > 2 && back && met != "" && !passesOn(met) {
		st.callRoll(op, 2*op.Call)
		if len(st.queue(op.Queue)) == 0 {
			st.setQueue(op.Queue, []standing{s})
			at = 0
		}
	}
	if passesOn(met) || at > 2 {
		return
	}
	if met != "" && st.available(ops) <= len(ops)/2 { // somebody has it, so that pause is over
		delete(st.server.keys, freeMark+op.Queue)
	}
	for _, c := range st.server.connections {
		if c.inbox != "" && strings.HasPrefix(met, c.inbox) {
			ops[0].Told = true
			st.owed = append(st.owed, notice{c, store.Event{Key: op.Key, Word: store.Awaited}})
		}
	}
	for i := range ops {
		ops[i].Watched = true
		if e, found := st.get(ops[i].Key); found {
			ops[i].TTL = st.left(e)
		}
		st.watch(ops[i].Key)
	}
}

// rank is where somebody stands who comes, or comes back to where it stood.
func (st *step) rank(queue []standing, back int64) int64 {
	switch {
	case back > 0:
		return back
	case len(queue) > 0:
		return queue[len(queue)-1].rank + 1
	}
	return st.now.UnixMicro()
}

// passesOn tells whether a holder knows of the queue: its owner value says so.
func passesOn(value string) bool {
	rest, ok := strings.CutPrefix(value, "ctxlock/")
	_, moment, _ := strings.Cut(rest, "/")
	return ok && strings.HasPrefix(moment, "+")
}

// releases carries out the release of the keys of one lock.
func (st *step) releases(ops []store.Op) {
	op := &ops[0]
	if op.Queue == "" {
		each((*step).release)(st, ops)
		return
	}
	if op.Epoch > 0 {
		st.quit(op, op.Epoch)
	}
	own := 0
	for i := range ops {
		if e, found := st.get(ops[i].Key); found && e.value == op.Owner {
			ops[i].Found = true
			own++
		}
	}
	if own <= len(ops)/2 || op.Free || !st.pass(ops) {
		if _, called := st.get(callMark + op.Queue); own > 0 && !called && len(st.queue(op.Queue)) > 0 {
			st.set(callMark+op.Queue, "1", max(op.Call+op.Yield, time.Millisecond))
		} else if called && own > 0 && !op.Free {
			st.remove(callMark + op.Queue)
		}
		for i := range ops {
			if ops[i].Found {
				st.remove(ops[i].Key)
			}
		}
		st.nudge(op)
	}
	if _, found := st.get(op.Wake); found && op.Wake != "" {
		st.remove(op.Wake)
	}
}

// pass gives the keys to the first in the queue who is there, and tells whether there was one.
func (st *step) pass(ops []store.Op) bool {
	op := &ops[0]
	for {
		queue := st.queue(op.Queue)
		if len(queue) == 0 {
			return false
		}
		next := queue[0]
		st.setQueue(op.Queue, queue[1:])
		if next.inbox.gone {
			continue
		}
		passed := &store.Passed{Owner: next.owner, Epoch: next.epoch, Passes: op.Passes, Remaining: op.Remaining, Alone: op.Alone}
		if next.fenced {
			passed.Token = st.tokenFor(ops)
		}
		for i := range ops {
			if e, found := st.get(ops[i].Key); !found || e.value == op.Owner {
				st.set(ops[i].Key, next.owner, next.validity)
				passed.Keys++
			}
		}
		st.owed = append(st.owed, notice{next.inbox, store.Event{Key: op.Key, Word: store.PassedOn, Passed: passed}})
		return true
	}
}

// tokenFor takes the next token for a lock, and writes it to all its counters; zero if that cannot be.
func (st *step) tokenFor(ops []store.Op) int64 {
	token := st.now.UnixMicro()
	for i := range ops {
		last, err := st.counter(&ops[i])
		if err != nil || ops[i].Counter == "" {
			return 0
		}
		token = max(token, last+1, ops[i].Floor+1)
	}
	for i := range ops {
		st.setCounter(&ops[i], token)
	}
	return token
}

// nudge has the first in the queue look.
func (st *step) nudge(op *store.Op) {
	if op.Yield > 0 {
		st.set(freeMark+op.Queue, "1", op.Yield)
	}
	queue := st.queue(op.Queue)
	for len(queue) > 0 && queue[0].inbox.gone {
		queue = queue[1:]
		st.setQueue(op.Queue, queue)
	}
	if len(queue) > 0 {
		st.owed = append(st.owed, notice{queue[0].inbox, store.Event{Key: op.Key, Word: store.Look, After: op.Yield}})
	}
}

// stands tells whether somebody stands there by a claim of one of the epochs that the op knows of, up to the last. One that was settled before is
// not looked for: it would only be there if it had arrived late.
func stands(s standing, op *store.Op, last int32) bool {
	return s.owner == op.Owner && s.epoch >= op.Settled && s.epoch <= last
}

// quit takes somebody out of the queue, if it is there by a claim of one of these epochs.
func (st *step) quit(op *store.Op, last int32) {
	queue := st.queue(op.Queue)
	left := slices.DeleteFunc(slices.Clone(queue), func(s standing) bool { return stands(s, op, last) })
	if len(left) < len(queue) {
		st.setQueue(op.Queue, left)
	}
}

// queue is who stands in one.
func (st *step) queue(key string) []standing {
	if _, found := st.get(key); !found {
		delete(st.server.queues, key)
	}
	return st.server.queues[key]
}

func (st *step) setQueue(key string, queue []standing) {
	if len(queue) == 0 {
		delete(st.server.queues, key)
		if _, found := st.get(key); found {
			st.remove(key)
		}
		return
	}
	st.server.queues[key] = queue
	st.set(key, "queue", queueLife)
}
