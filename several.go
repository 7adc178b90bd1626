package ctxlock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ctxlock/ctxlock/internal/jitter"
	"github.com/ctxlock/ctxlock/store"
)

// Several names at once: first all are tried together, in the time of one round trip. If some are held by others, nothing is kept
// and they are taken one after the other in the order of their names, whatever order the caller gave, so that of any number of callers
// one gets on (Dijkstra's resource hierarchy). That order binds only those who ask for several names in one call. Somebody who holds
// one lock and waits for another may still close a circle, so nobody waits for long with locks in hand: after a part of a validity
// all are let go, and the one that was missing is waited for with empty hands.

// bundle is several locks that were taken together, and the context that they are held as. It ends when any of them ends.
type bundle struct {
	// Context is what end ends, and the parent of its members' own.
	context.Context
	end     context.CancelCauseFunc
	members []*holding // in the order in which they were named; set before the bundle is handed out
	handle  Lock
}

func newBundle(ctx context.Context) *bundle {
	b := &bundle{}
	b.Context, b.end = context.WithCancelCause(ctx)
	b.handle.all = b
	return b
}

// Err is context.Context's. Like that of a single lock it looks at the clock itself.
func (b *bundle) Err() error {
	for _, l := range b.members {
		if l.Err() != nil {
			b.end(context.Cause(l))
		}
	}
	return b.Context.Err()
}

// Value is context.Context's. FromContext finds the handle by it.
func (b *bundle) Value(key any) any {
	if key == (handleKey{}) {
		return &b.handle
	}
	return b.Context.Value(key)
}

// String keeps fmt from walking through the engine when somebody prints the context.
func (b *bundle) String() string {
	return fmt.Sprintf("%v.WithLocks(%s)", b.Context, quote(b.handle.Name()))
}

// joins makes a lock that was just taken a member: from now on its end is the bundle's. It fails if one of the two has ended.
func (b *bundle) joins(l *holding) error {
	l.bundle.Store(b)
	if l.Err() != nil {
		return context.Cause(l)
	}
	return nil
}

const mostNames = 1024

// AcquireAll is described at Locker.
func (k *locker) AcquireAll(ctx context.Context, names []string, option AcquireOption) (context.Context, *Lock, error) {
	g, err := k.gather(ctx, names, option)
	if err == nil && ctx.Err() != nil {
		err = ctxError(ctx, g.what(), nil)
	}
	if err != nil {
		return failed(ctx, err), nil, err
	}
	b, err := g.acquire(ctx)
	if err != nil {
		return failed(ctx, err), nil, err
	}
	for _, l := range b.members {
		l.watch(g.terms.watcher)
	}
	return b, &b.handle, nil
}

// gathering is one call of AcquireAll.
type gathering struct {
	k     *locker
	names []string // as they were given, each once
	order []int    // indexes of names, by name
	terms *terms
	mode  Mode
	// Where the call as a whole stands with the caller's policy, whichever of the names it is about.
	pacing pacing
	gaveUp bool
}

func (k *locker) gather(ctx context.Context, names []string, option AcquireOption) (*gathering, error) {
	t, err := k.termsOf(option)
	switch {
	case err != nil:
		return nil, err
	case ctx == nil:
		return nil, errNilContext
	case len(names) == 0:
		return nil, store.Permanent(errors.New("ctxlock: no names"))
	}
	seen := make(map[string]bool, len(names))
	g := &gathering{k: k, terms: t, mode: option.Mode, pacing: pacing{policy: t.Retry, k: k, began: k.now()}}
	for i, name := range names {
		if err := checkName(name); err != nil {
			return nil, fmt.Errorf("%w (name %d of %d)", err, i+1, len(names))
		}
		if !seen[name] {
			seen[name] = true
			g.order = append(g.order, len(g.names))
			g.names = append(g.names, name)
		}
	}
	if len(g.names) > mostNames {
		return nil, store.Permanent(fmt.Errorf("ctxlock: %d names are more than %d", len(g.names), mostNames))
	}
	slices.SortFunc(g.order, func(i, j int) int { return strings.Compare(g.names[i], g.names[j]) })
	return g, nil
}

// what is what errors about all of it name.
func (g *gathering) what() string { return fmt.Sprintf("%d names", len(g.names)) }

// acquire takes all or none.
func (g *gathering) acquire(ctx context.Context) (*bundle, error) {
	b, _, err := g.together(ctx, -1)
	for err != nil {
		if g.mode != Wait || !g.again(ctx, err) {
			return nil, g.k.lastWord(ctx, g.what(), err)
		}
		var missing int
		if b, missing, err = g.oneByOne(ctx); err == nil || missing < 0 {
			continue
		}
		if !g.again(ctx, err) {
			return nil, g.k.lastWord(ctx, g.what(), err)
		}
		b, _, err = g.together(ctx, missing)
	}
	return b, nil
}

// again tells whether an attempt at all of it that failed is worth another.
func (g *gathering) again(ctx context.Context, err error) bool {
	return !g.gaveUp && g.k.worthWaiting(ctx, err) && g.retry(err).Again
}

// together takes one name, waiting for it if that is not -1, and then tries all others at once.
func (g *gathering) together(ctx context.Context, first int) (*bundle, int, error) {
	b := newBundle(ctx)
	taken := make([]*holding, len(g.names))
	errs := make([]error, len(g.names))
	defer g.unlessKept(ctx, b, taken)
	if first >= 0 {
		if taken[first], errs[first] = g.wait(b, first, never); errs[first] != nil {
			return nil, first, g.blame(ctx, b, first, errs[first])
		}
	}
	g.tryAll(b, first, taken, errs)
	if missing := g.worst(errs); missing >= 0 {
		return nil, missing, g.blame(ctx, b, missing, errs[missing])
	}
	b.members = taken
	return b, -1, nil
}

// tryAll tries all names but first at once, and those again where only remains of the own were met.
func (g *gathering) tryAll(b *bundle, first int, taken []*holding, errs []error) {
	var names []int
	for i := range g.names {
		if i != first {
			names = append(names, i)
		}
	}
	again := g.tryThese(b, names, taken, errs)
	g.tryThese(b, again, taken, errs)
}

// tryThese makes one attempt at each of some names, all at once, and gives those that are worth
// another. ValueFunc is called here, on the caller's own goroutine, where it may panic.
func (g *gathering) tryThese(b *bundle, names []int, taken []*holding, errs []error) (again []int) {
	owners := make([]string, len(names))
	for j, i := range names {
		if owners[j], errs[i] = g.terms.owner(); errs[i] != nil {
			return nil
		}
	}
	cleared := make([]bool, len(names))
	var calls sync.WaitGroup
	for j, i := range names {
		calls.Go(func() { taken[i], cleared[j], errs[i] = g.tryOne(b, i, owners[j]) })
	}
	calls.Wait()
	for j, i := range names {
		if cleared[j] {
			again = append(again, i)
		}
	}
	return again
}

// tryOne makes one attempt at one name. cleared tells that what it has met was the own, and is
// gone.
func (g *gathering) tryOne(b *bundle, i int, owner string) (l *holding, cleared bool, err error) {
	k, name, began := g.k, g.names[i], g.k.now()
	l, back := k.claim(b, name, manner{terms: g.terms, owner: owner, force: g.mode == Force})
	if l == nil {
		return nil, k.cleared(b, name, back, began), k.lastWord(b, name, back.err)
	}
	return l, false, b.joins(l)
}

// worst picks the error that says the most: one that waiting cannot mend before others. It gives -1 if there is none.
func (g *gathering) worst(errs []error) int {
	worst := -1
	for _, i := range g.order {
		if errs[i] != nil && (worst < 0 || store.IsPermanent(errs[i]) && !store.IsPermanent(errs[worst])) {
			worst = i
		}
	}
	return worst
}

// oneByOne takes the names in their order. It gives the index of the one that it waited for in vain, or -1 if it was another reason
// that it let all go for.
func (g *gathering) oneByOne(ctx context.Context) (*bundle, int, error) {
	b := newBundle(ctx)
	taken := make([]*holding, len(g.names))
	defer g.unlessKept(ctx, b, taken)
	most := never // with empty hands
	for _, i := range g.order {
		var err error
		if taken[i], err = g.wait(b, i, most); err != nil {
			return nil, i, g.blame(ctx, b, i, err)
		}
		most = jitter.Between(g.terms.validity/8, g.terms.validity/4)
	}
	b.members = taken
	return b, -1, nil
}

// wait takes one name, waiting for it for at most so long beyond what the caller's policy allows.
func (g *gathering) wait(b *bundle, i int, most time.Duration) (*holding, error) {
	t := *g.terms
	if most != never || t.Retry != nil {
		t.Retry = RetryFunc(func(a Attempt) Retry {
			if a.Elapsed >= most {
				return Retry{}
			}
			r := g.retry(a.Err)
			r.After = min(r.After, most-a.Elapsed)
			return r
		})
	}
	l, err := g.k.wait(b, g.names[i], &t)
	if err != nil {
		return nil, err
	}
	return l, b.joins(l)
}

// retry asks the caller's policy about an attempt that failed, unless the pause that it asked for last is not over yet.
func (g *gathering) retry(err error) Retry {
	if !g.pacing.goOn(err) {
		g.gaveUp = true
		return Retry{}
	}
	return Retry{Again: true, After: g.pacing.left(never), SleepThrough: g.pacing.sleepThrough}
}

// blame finds the reason why all was let go. If one of those that were taken was lost meanwhile, it is that.
func (g *gathering) blame(ctx context.Context, b *bundle, i int, err error) error {
	if ctx.Err() == nil && b.Context.Err() != nil {
		return fmt.Errorf("ctxlock: %s: %w", quote(g.names[i]), context.Cause(b.Context))
	}
	return err
}

// unlessKept gives back what was taken unless the bundle has become complete: because one of the names could not be had, or because
// the caller's policy panicked.
func (g *gathering) unlessKept(ctx context.Context, b *bundle, taken []*holding) {
	if b.members != nil {
		return
	}
	b.end(ErrReleased)
	g.k.cancelAll(ctx, slices.DeleteFunc(taken, func(l *holding) bool { return l == nil }))
}
