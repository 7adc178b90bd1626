package ctxlock

import (
	"context"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// Waiters are counted for those who look (Locker.Look): each locker notes on the server, on a list beside the lock, how many of its calls
// stand in line for a name. Only for people to see: nothing rests on it. So it is noted late, when a line has stood for a while, and
// seldom, and of a process that crashed the note stays until it runs out.
const (
	// noteAfter is how long a line has to stand to be noted, and how often upkeep looks for what has changed.
	noteAfter = 250 * time.Millisecond
	// noteLife is how long a note lives, and noteAgain how often it is renewed.
	noteLife  = time.Minute
	noteAgain = noteLife / 3
)

// noted is a note that stands on a list.
type noted struct {
	count int
	at    time.Duration // when it was last written
}

// lineChanged has upkeep look at the lines, in a while, or at once if one is gone that was noted. Under k.mu.
func (k *locker) lineChanged(name string) {
	_, noted := k.noted[name]
	due := k.now() + noteAfter
	if noted && k.lines[name] == nil {
		due -= noteAfter
	}
	if due < k.notesDue {
		k.notesDue = due
		if due < k.wakeAt {
			k.kickLocked()
		}
	}
}

// dueNotes has what has changed about the lines noted, and gives the time to look again. Under k.mu.
func (k *locker) dueNotes(now time.Duration) time.Duration {
	if now < k.notesDue {
		return k.notesDue
	}
	next := never
	for name, queue := range k.lines {
		note, was := k.noted[name]
		due := queue.since + noteAfter
		if was {
			due = note.at + noteAgain
		}
		switch {
		case due <= now || was && note.count != len(queue.waiters):
			k.note(name, noted{len(queue.waiters), now})
			next = min(next, now+noteAgain)
		default:
			next = min(next, due)
		}
	}
	for name := range k.noted {
		if k.lines[name] == nil {
			k.note(name, noted{})
		}
	}
	k.notesDue = next
	return next
}

// note has a note written; one of nothing takes it back. Under k.mu.
func (k *locker) note(name string, n noted) {
	if n.count == 0 {
		delete(k.noted, name)
	} else {
		k.noted[name] = n
	}
	k.toNote[name] = n.count
	if !k.noting {
		k.noting = k.spawnLocked(k.writeNotes)
	}
}

// writeNotes writes what is to be noted, one request after the other, so that a newer note does not come before an older one.
func (k *locker) writeNotes() {
	for {
		k.mu.Lock()
		ops := k.notes(k.toNote)
		clear(k.toNote)
		k.noting = len(ops) > 0
		k.mu.Unlock()
		if len(ops) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(k.life, k.patience.now())
		k.enlist(ctx, ops)
		cancel()
	}
}

// notes makes requests of counts by name.
func (k *locker) notes(counts map[string]int) []store.Op {
	ops := make([]store.Op, 0, len(counts))
	for name, count := range counts {
		ops = append(ops, store.Op{Key: listKeyOf(k.prefix, name), Owner: k.id, Waiters: count, Validity: noteLife})
	}
	return ops
}

// enlist writes notes. What fails is not tried again before its next turn: permissions may be missing.
func (k *locker) enlist(ctx context.Context, ops []store.Op) {
	k.onLanes(ops, func(ops []store.Op) { k.store.Enlist(ctx, ops) })
}

// takeBackNotes is what Close does about them.
func (k *locker) takeBackNotes(ctx context.Context) {
	k.mu.Lock()
	for name := range k.noted {
		k.toNote[name] = 0
	}
	for name := range k.toNote {
		k.toNote[name] = 0
	}
	ops := k.notes(k.toNote)
	k.mu.Unlock()
	k.enlist(ctx, ops)
}
