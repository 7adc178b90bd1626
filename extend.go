package ctxlock

import (
	"context"
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
	l *lock
	i int
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
		next := now + min(k.interval, mostIdle)
		if len(k.agenda) > 0 {
			next = min(next, k.agenda[0].due)
		}
		sweeps, next := k.dueSweeps(now, next)
		k.wakeAt = next
		for _, batch := range batches(k.store, targets) {
			k.spawnLocked(func() { k.extend(batch) })
		}
		for _, lane := range sweeps {
			k.spawnLocked(func() { k.sweep(lane) })
		}
		k.mu.Unlock()
		timer.Reset(max(0, next-now))
	}
}

// schedule puts a held lock on the agenda, for when it is due. Under k.mu.
func (k *locker) schedule(l *lock) {
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
	gather := now + min(k.interval/16, mostGather)
	for len(k.agenda) > 0 && k.agenda[0].due <= gather {
		l := k.agenda[0]
		k.agenda.remove(l)
		if l.Context.Err() != nil {
			continue // the caller's context ended: the key stays, no longer extended
		}
		l.again, l.extended = false, now
		l.wakes = true // from now on waiters may rely on the wake key
		for i := range l.keys {
			key := &l.keys[i]
			key.echo = key.watched && k.store.Echoes()
			targets = append(targets, target{l, i})
		}
		l.asking = len(l.keys)
	}
	return targets
}

// batches cuts targets into what goes out together.
func batches(s store.Store, targets []target) (all [][]target) {
	lanes := make(map[int]int) // lane to its open batch
	for _, t := range targets {
		lane := s.Lane(t.l.keys[t.i].name)
		b, open := lanes[lane]
		if !open || len(all[b]) == batchSize {
			b = len(all)
			lanes[lane] = b
			all = append(all, make([]target, 0, min(batchSize, len(targets))))
		}
		all[b] = append(all[b], t)
	}
	return all
}

// extend sends one batch and books its answers. It waits for them as long as they could be of use to any of the batch; each lock
// has its own timer.
func (k *locker) extend(batch []target) {
	ops := make([]store.Op, len(batch))
	var latest time.Duration
	for j, t := range batch {
		ops[j] = store.Op{Key: t.l.keys[t.i].name, Owner: t.l.owner, Validity: k.validity}
		latest = max(latest, time.Duration(t.l.trusted.Load()))
	}
	sent := k.now()
	window := windowOf(k.validity)
	latest = min(latest, sent+window-window/8) // so that there is time for another round before what this one gave runs out
	ctx, cancel := context.WithTimeoutCause(k.life, latest-sent, errNoAnswer)
	defer cancel()
	k.store.Extend(ctx, ops)

	k.mu.Lock()
	var losses []loss
	for j, t := range batch {
		if cause := k.bookExtension(t, sent, &ops[j]); cause != nil {
			losses = append(losses, loss{t.l, cause})
		}
	}
	k.mu.Unlock()
	for _, loss := range losses {
		loss.l.end(loss.cause)
		k.leave(loss.l.name, loss.l.lostOps(), k.now()+k.validity)
	}
}

type loss struct {
	l     *lock
	cause *LostError
}

// bookExtension books one answer, and gives the cause if it means that the lock is lost. Under k.mu.
func (k *locker) bookExtension(t target, sent time.Duration, op *store.Op) *LostError {
	l := t.l
	l.asking--
	if l.state != held {
		return nil
	}
	l.keys[t.i].echo = false
	l.book(t.i, sent, op)
	if l.count(mine) < k.majority {
		return l.lose()
	}
	l.believe()
	if l.asking == 0 {
		k.nextTurn(l, sent)
	}
	return nil
}

// nextTurn puts a lock whose round of answers is complete back on the agenda. Under k.mu.
func (k *locker) nextTurn(l *lock, sent time.Duration) {
	switch now := k.now(); {
	case l.again:
		l.due = now + l.calm(now)
	case l.until() < sent+k.interval: // trust would not reach the next regular turn
		l.due = now + min(max(k.interval/8, 5*time.Millisecond), 500*time.Millisecond)
	default:
		l.due = sent + k.interval
	}
	k.schedule(l)
	if l.count(gone) > 0 {
		k.spawnLocked(func() { k.restore(l) })
	}
}

// restore sets the keys of a held lock again that have vanished from a minority of nodes, as when one came back empty.
func (k *locker) restore(l *lock) {
	k.mu.Lock()
	var indexes []int
	for i := range l.keys {
		if l.keys[i].standing == gone {
			indexes = append(indexes, i)
		}
	}
	all := make([]store.Op, len(l.keys))
	l.claimOps(manner{}, all)
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

func (k *locker) restoreLane(l *lock, ops []store.Op, indexes []int) {
	sent := k.now()
	k.store.Claim(l, ops)
	k.mu.Lock()
	if l.state == held {
		for j, i := range indexes {
			l.book(i, sent, &ops[j])
		}
		l.believe()
		k.mu.Unlock()
		return
	}
	remains := l.remainsOf(ops)
	k.mu.Unlock()
	k.leave(l.name, remains, sent+k.validity)
}

// touched takes the hint that key i of a lock has changed. Under k.mu.
func (k *locker) touched(l *lock, i int) {
	key := &l.keys[i]
	if key.echo { // that was our own extension
		key.echo = false
		return
	}
	key.watched = false
	switch {
	case l.state == claiming || l.asking > 0:
		l.again = true
	case l.state == held && l.Context.Err() == nil:
		k.agenda.remove(l)
		now := k.now()
		l.due = now + l.calm(now)
		k.schedule(l)
	}
}

// calm is how long to wait before a touch of the lock's keys is answered: not at all, unless the last one has just been. Somebody
// may touch a key in a loop, or forge events, or each answer may bring the next event. Under k.mu.
func (l *lock) calm(now time.Duration) time.Duration {
	if now-l.extended > hasty {
		l.restless.reset()
		return 0
	}
	return l.restless.next()
}

// lostOps is what to clean up after a loss: its minority of the keys, and the wake key, which waiters may rely on.
func (l *lock) lostOps() []store.Op {
	l.k.mu.Lock()
	defer l.k.mu.Unlock()
	ops := make([]store.Op, len(l.keys)) // the release may come at any moment and needs l.ops
	for i := range l.keys {
		ops[i] = store.Op{Key: l.keys[i].name, Owner: l.owner}
	}
	if l.wakes {
		ops[0].Wake = wakeKeyOf(l.k.prefix, l.name)
	}
	return ops
}
