package ctxlock

import (
	"context"
	"fmt"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// Extension: one goroutine for each locker, upkeep, keeps an agenda of all that is held. What falls due within a short while
// goes out together, in batches by lane. Locks come to their turns as they were taken, so the work is spread over ExtendInterval
// by itself.
//
// An unexpected event about a held lock (its key was deleted, taken, or its TTL cut) also means "extend now": that repairs what
// can be repaired and finds out what cannot.

const (
	// batchSize is how many keys go out in one request. Larger ones gain little and hold up what comes after them.
	batchSize = 256
	// mostGather is how much before its time a lock may be extended to share a batch.
	mostGather = 50 * time.Millisecond
	// mostIdle is how long upkeep sleeps at the most.
	mostIdle = time.Minute
)

// target is one key that is to be extended.
type target struct {
	l    *holding
	i    int
	turn int32 // which of the lock's rounds
}

// upkeep extends and sweeps until the locker is closed.
func (k *locker) upkeep() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-k.life.Done():
			return
		case <-timer.C:
		case <-k.kick:
		}
		k.mu.Lock()
		now := k.now()
		targets := k.dueTargets(now)
		next := now + mostIdle
		if len(k.agenda) > 0 {
			next = min(next, k.agenda[0].due)
		}
		next = min(k.dueSweeps(now, next), k.dueNotes(now), k.forgetSwept(now))
		k.wakeAt = next
		for _, batch := range batches(k.store, targets) {
			k.spawnLocked(func() { k.extend(batch) })
		}
		k.mu.Unlock()
		timer.Reset(max(0, next-now))
	}
}

// schedule puts a held lock on the agenda, for when it is due. Under k.mu.
func (k *locker) schedule(l *holding) {
	k.agenda.put(l)
	if l.due < k.wakeAt {
		k.kickLocked()
	}
}

// kickLocked has upkeep look at the agenda. A kick that is still unread serves for this one, too.
func (k *locker) kickLocked() {
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

// dueTargets takes off the agenda what is due, and what will be shortly if something is. Under k.mu.
func (k *locker) dueTargets(now time.Duration) []target {
	if len(k.agenda) == 0 || k.agenda[0].due > now {
		return nil
	}
	var targets []target
	for len(k.agenda) > 0 && k.agenda[0].due <= now+mostGather {
		l := k.agenda[0]
		if l.due > now+l.interval()/16 {
			break
		}
		k.agenda.remove(l)
		if l.Context.Err() != nil {
			continue // the caller's context ended: the key stays, no longer extended
		}
		l.renewing = l.keepers > 0 || l.forced
		l.again, l.forced, l.extended = false, false, now
		l.wakes = true // from now on waiters may rely on the wake key
		for i := range l.keys {
			key := &l.keys[i]
			key.echo = key.watched && k.store.Echoes()
			targets = append(targets, target{l, i, l.turn + 1})
		}
		l.turn++
		if l.renewing {
			l.mayLive = max(l.mayLive, now+l.validity+k.patience.now())
		}
		l.lastErr = nil
		l.asking, l.good, l.open = int32(len(l.keys)), 0, true
	}
	return targets
}

// batches cuts targets into what goes out together.
func batches(s store.Store, targets []target) (all []round) {
	type kind struct {
		lane     int
		renewing bool
		validity time.Duration
	}
	open := make(map[kind]int) // the batch that more of the kind go into
	for _, t := range targets {
		of := kind{s.Lane(t.l.keys[t.i].name), t.l.renewing, t.l.validity}
		b, ok := open[of]
		if !ok || len(all[b].targets) == batchSize {
			b = len(all)
			open[of] = b
			all = append(all, round{make([]target, 0, min(batchSize, len(targets))), of.renewing, of.validity})
		}
		all[b].targets = append(all[b].targets, t)
	}
	return all
}

// round is one batch of a round of extensions, all of which are for the same validity.
type round struct {
	targets  []target
	renewing bool // extends; else it only looks, because the lock is to be extended by hand
	validity time.Duration
}

// extend sends one batch and books its answers. It waits for them as long as they could be of use to any of the batch; each lock
// has its own timer.
func (k *locker) extend(r round) {
	ops := make([]store.Op, len(r.targets))
	var latest time.Duration
	for j, t := range r.targets {
		ops[j] = t.l.extendOp(t.i, r)
		latest = max(latest, time.Duration(t.l.trusted.Load()))
	}
	sent := k.now()
	window := k.drift.windowOf(r.validity)
	latest = min(latest, sent+window-window/8) // so that there is time for another round before what this one gave runs out
	ctx, cancel := context.WithTimeoutCause(k.life, latest-sent, errNoAnswer)
	defer cancel()
	if r.renewing {
		k.store.Extend(ctx, ops)
	} else {
		k.store.Read(ctx, ops)
	}

	k.mu.Lock()
	var losses []loss
	for j, t := range r.targets {
		if cause := k.bookExtension(t, sent, &ops[j]); cause != nil {
			losses = append(losses, loss{t.l, cause})
		}
	}
	k.mu.Unlock()
	for _, loss := range losses {
		loss.l.lost(loss.cause)
		ops, until := loss.l.lostOps()
		k.leave(loss.l.name, ops, until)
	}
}

// extendOp is what a round asks for one key.
func (l *holding) extendOp(i int, r round) store.Op {
	op := store.Op{Key: l.keys[i].name, Owner: l.owner}
	if r.renewing {
		op.Validity = r.validity
		if l.terms.Fencing && len(l.keys) > 1 {
			op.Counter, op.Floor = counterKeyOf(l.k.prefix, i, l.name), l.token
		}
	}
	return op
}

type loss struct {
	l     *holding
	cause *LostError
}

// bookExtension books one answer, and gives the cause if it means that the lock is lost. Under k.mu.
func (k *locker) bookExtension(t target, sent time.Duration, op *store.Op) *LostError {
	l := t.l
	if l.state != held || t.turn != l.turn { // a node that was too slow for its turn has been asked again
		return nil
	}
	l.asking--
	l.keys[t.i].echo = false
	last := l.lastErr
	l.book(t.i, sent, op)
	if !l.open {
		l.lastErr = last // a minority that fails late keeps nothing from being extended
	}
	if k.names != nil {
		l.noteFault(t.i, op.Err)
	}
	if op.Mine() {
		l.good++
		if l.renewing {
			l.keys[t.i].renewed = t.turn
		}
	}
	if l.count(mine) < k.majority {
		return l.lose()
	}
	l.believe()
	if l.renewing && int(l.good) == len(l.keys) {
		l.mayLive = k.now() + l.validity // all have the new life, and older ones are over
	}
	switch {
	case !l.open: // a late answer
		k.restoreGone(l)
	case int(l.good) >= k.majority:
		l.lastErr = nil
		k.nextTurn(l, sent)
	case int(l.good+l.asking) < k.majority:
		if l.renewing {
			failed := l.notExtended()
			if l.audience != nil {
				l.audience.failed, l.audience.failedTurn = failed, l.turn
			}
			l.tell(failed)
		}
		k.nextTurn(l, sent)
	}
	l.wakeWaiting()
	return nil
}

// renewedIn counts the keys that were confirmed in that round or a later one. Under k.mu.
func (l *holding) renewedIn(turn int32) (n int) {
	for i := range l.keys {
		if l.keys[i].renewed >= turn {
			n++
		}
	}
	return n
}

// notExtended is the error of a round that too few keys have confirmed. Under k.mu.
func (l *holding) notExtended() error {
	err := l.lastErr
	switch {
	case l.k.names != nil:
		err = l.faultsOfNodes()
	case err == nil:
		err = errNoAnswer
	}
	return fmt.Errorf("ctxlock: %s: not extended: %w", quote(l.name), err)
}

// nextTurn puts a lock whose round is decided back on the agenda. A minority that is slow is not waited for. Under k.mu.
func (k *locker) nextTurn(l *holding, sent time.Duration) {
	l.open = false
	k.restoreGone(l)
	switch now := k.now(); {
	case l.forced:
		l.due = now
	case l.again:
		l.due = now + l.calm(now)
	case l.keepers == 0: // whoever holds it extends it by hand
		return
	case l.until() < sent+l.interval(): // trust would not reach the next regular turn
		l.due = now + min(max(l.interval()/8, 5*time.Millisecond), 500*time.Millisecond)
	default:
		l.due = sent + l.interval()
	}
	k.schedule(l)
}

// restoreGone has the keys that are gone set again, unless the lock is extended by hand and this was only a look. Under k.mu.
func (k *locker) restoreGone(l *holding) {
	if l.renewing && l.count(gone) > 0 {
		k.spawnLocked(func() { k.restore(l) })
	}
}

// restore sets the keys of a held lock again that have vanished from a minority of nodes, as when one came back empty.
func (k *locker) restore(l *holding) {
	k.mu.Lock()
	var indexes []int
	for i := range l.keys {
		if l.keys[i].standing == gone {
			indexes = append(indexes, i)
			l.keys[i].standing = unheard // one attempt at a time
			l.restored = true
		}
	}
	all := make([]store.Op, len(l.keys))
	l.claimOps(manner{}, all)
	for i := range all {
		all[i].Restore, all[i].From, all[i].Replicas, all[i].Floor = true, "", 0, l.token-1
	}
	ops := pick(all, indexes)
	k.mu.Unlock()
	for _, group := range laneGroups(k.store, ops) {
		of := make([]int, len(group))
		for j, g := range group {
			of[j] = indexes[g]
		}
		k.spawn(func() { k.restoreLane(l, pick(ops, group), of) })
	}
}

func (k *locker) restoreLane(l *holding, ops []store.Op, indexes []int) {
	sent := k.now()
	k.store.Claim(l, ops)
	k.mu.Lock()
	if l.state == held {
		for j, i := range indexes {
			if l.keys[i].standing == unheard { // else it has been heard of since
				l.book(i, sent, &ops[j])
			}
			l.keys[i].late = l.keys[i].late || ops[j].Unknown
		}
		l.believe()
		k.mu.Unlock()
		return
	}
	remains := l.remainsOf(ops)
	k.mu.Unlock()
	k.leave(l.name, remains, sent+ops[0].Validity)
}

// touched takes the hint that key i of a lock has changed. Under k.mu.
func (k *locker) touched(l *holding, i int) {
	key := &l.keys[i]
	if key.echo { // that was our own extension
		key.echo = false
		return
	}
	key.watched = false
	switch {
	case l.state == queued: // that is for its wait to see to
	case l.state == claiming || l.open:
		l.again = true
	case l.state == held && l.Context.Err() == nil:
		k.agenda.remove(l)
		now := k.now()
		l.again = true // until it has been looked at
		l.due = now + l.calm(now)
		k.schedule(l)
	}
}

// calm is how long to wait before a touch of the lock's keys is answered: not at all, unless the last one has just been. Somebody
// may touch a key in a loop, or forge events, or each answer may bring the next event. Under k.mu.
func (l *holding) calm(now time.Duration) time.Duration {
	if now-l.extended > hasty {
		l.restless.reset()
		return 0
	}
	return l.restless.next()
}

// lostOps is what to clean up after a loss: its minority of the keys, and the wake key, which waiters may rely on.
func (l *holding) lostOps() ([]store.Op, time.Duration) {
	l.k.mu.Lock()
	defer l.k.mu.Unlock()
	var ops []store.Op // the release may come at any moment and needs l.ops
	if l.queueing.aware && l.k.queuedKeys() > 0 {
		ops = l.passOps(ops) // what is left goes to the next in the queue, who is told in any case
	}
	for i := range l.keys[len(ops):] {
		ops = append(ops, store.Op{Key: l.keys[i].name, Owner: l.owner})
	}
	for i := range ops {
		ops[i].Unknown = l.keys[i].late
	}
	if l.wakes {
		ops[0].Wake = wakeKeyOf(l.k.prefix, l.name)
	}
	return ops, max(l.k.now()+l.validity, l.mayLive)
}
