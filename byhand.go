package ctxlock

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Extending by hand is a round of the background's kind that somebody waits for. So there is one place that extends, one round at
// a time for each lock, and no request of an older validity can undo one of a newer.

// extend gives the lock a validity from now, zero for what it had, and returns when a majority has confirmed that or cannot any more.
func (l *holding) extend(ctx context.Context, validity time.Duration) error {
	k := l.k
	k.mu.Lock()
	asked := l.turn + 1 // the next round
	if l.state == held {
		now := k.now()
		l.setValidity(now, validity)
		l.forced = true
		if !l.open {
			k.agenda.remove(l)
			l.due = now
			k.schedule(l)
		}
	}
	for {
		done, err := l.extendedIn(asked)
		if done {
			k.mu.Unlock()
			return err
		}
		answered := l.listen()
		k.mu.Unlock()
		select {
		case <-answered:
		case <-l.Context.Done():
		case <-ctx.Done():
			return fmt.Errorf("%w: the extension is not confirmed", unanswered(ctx, l.name))
		}
		k.mu.Lock()
	}
}

// setValidity has the lock extended by another validity from now on. If that is shorter, its keys may be cut as soon as the request
// is on its way, whether an answer comes or not, so trust is cut before. Under k.mu.
func (l *holding) setValidity(now, validity time.Duration) {
	if validity == 0 || validity == l.validity {
		return
	}
	l.validity = validity
	most := now + l.k.drift.windowOf(validity)
	for i := range l.keys {
		l.keys[i].until = min(l.keys[i].until, most)
		l.keys[i].given = min(l.keys[i].given, validity) // an answer that is still on its way must not take that back
	}
	l.believe()
}

// extendedIn tells whether it is decided what became of an extension that is part of that round, or of a later one. Under k.mu.
func (l *holding) extendedIn(turn int32) (done bool, err error) {
	switch {
	case l.Context.Err() != nil:
		return true, context.Cause(l.Context)
	case l.state != held: // somebody is about to end the context
		return false, nil
	case l.renewedIn(turn) >= l.k.majority:
		return true, nil
	case l.audience != nil && l.audience.failedTurn >= turn:
		return true, l.audience.failed
	}
	return false, nil
}

// listen gives a channel that is closed with the next answer, or when the lock ends. Under k.mu.
func (l *holding) listen() <-chan struct{} {
	a := l.heard()
	if a.answered == nil {
		a.answered = make(chan struct{})
	}
	return a.answered
}

// wakeWaiting tells those who listen. Under k.mu.
func (l *holding) wakeWaiting() {
	if a := l.audience; a != nil && a.answered != nil {
		close(a.answered)
		a.answered = nil
	}
}

// keep has the lock extended in the background for as long as it is kept, and the watcher, if there is one, told.
func (l *holding) keep(w *watcher) {
	k := l.k
	k.mu.Lock()
	defer k.mu.Unlock()
	l.watchLocked(w)
	l.keepers++
	switch {
	case l.keepers > 1 || l.state != held:
	case !l.open:
		k.agenda.remove(l)
		l.due = k.now()
		k.schedule(l)
	case !l.renewing: // it is only being looked at
		l.forced = true
	}
}

// watch has a watcher, if there is one, told of what becomes of the lock, and of its loss if that was before.
func (l *holding) watch(w *watcher) {
	l.k.mu.Lock()
	defer l.k.mu.Unlock()
	l.watchLocked(w)
}

func (l *holding) watchLocked(w *watcher) {
	if w == nil {
		return
	}
	a := l.heard()
	a.watchers = append(a.watchers, w)
	if a.told {
		w.hear(a.loss)
	}
}

// unkeep undoes keep, and returns when no extension is under way any more.
func (l *holding) unkeep(w *watcher) {
	k := l.k
	k.mu.Lock()
	if w != nil {
		l.audience.watchers = slices.DeleteFunc(l.audience.watchers, func(other *watcher) bool { return other == w })
	}
	l.keepers--
	if l.keepers == 0 && !l.open && !l.forced && !l.again {
		k.agenda.remove(l)
	}
	for l.state == held && l.keepers == 0 && l.open {
		answered := l.listen()
		k.mu.Unlock()
		<-answered
		k.mu.Lock()
	}
	k.mu.Unlock()
}

// tell passes an error on to all who watch the lock. Under k.mu.
func (l *holding) tell(err error) {
	if l.audience == nil {
		return
	}
	for _, w := range l.audience.watchers {
		w.hear(err)
	}
}

// audience is who wants to know what becomes of a lock. Few do, and locks are many. Under k.mu.
type audience struct {
	answered chan struct{} // closed, and forgotten, with the next answer or end; nil if nobody waits for that
	watchers []*watcher
	loss     *LostError // how it was lost, if it was
	told     bool       // the watchers have been told, so those who come later are to be told at once
	// failed is what the last round that was to extend, and did not, failed with, and failedTurn which one that was.
	failed     error
	failedTurn int32
	faults     []error // of independent nodes, key by key: what the last request to extend failed with
}

// heard is the lock's audience, which there is from then on. Under k.mu.
func (l *holding) heard() *audience {
	if l.audience == nil {
		l.audience = &audience{}
	}
	return l.audience
}
