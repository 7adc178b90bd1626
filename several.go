package ctxlock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ctxlock/ctxlock/internal/jitter"
	"github.com/ctxlock/ctxlock/store"
)

// Several names at once: first all are tried together, in the time of one round trip. If some are held by others, nothing is kept
// and they are taken one after the other in the order of their names, whatever order the caller gave, so that of any number of callers
// one gets on (Dijkstra's resource hierarchy). That order binds only those who ask for several names in one call. Somebody who holds
// one lock and waits for another may still close a circle, so nobody waits for long with locks in hand: after about a validity all
// are let go, and the one that was missing is waited for with empty hands.

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
		l.Err()
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
	return b, &b.handle, nil
}

// gathering is one call of AcquireAll.
type gathering struct {
	k     *locker
	names []string // as they were given, each once
	order []int    // indexes of names, by name
	terms *terms
	mode  Mode
	began time.Duration
	// asked counts the attempts that the caller's policy was asked about.
	asked int
}

func (k *locker) gather(ctx context.Context, names []string, option AcquireOption) (*gathering, error) {
	t, err := k.termsOf(option)
	switch {
	case err != nil:
		return nil, err
	case ctx == nil:
		return nil, errors.New("ctxlock: nil context")
	case len(names) == 0:
		return nil, errors.New("ctxlock: no names")
	case len(names) > mostNames:
		return nil, fmt.Errorf("ctxlock: %d names are more than %d", len(names), mostNames)
	}
	g := &gathering{k: k, terms: t, mode: option.Mode, began: k.now()}
	for i, name := range names {
		if err := checkName(name); err != nil {
			return nil, fmt.Errorf("%w (name %d of %d)", err, i+1, len(names))
		}
		if !slices.Contains(g.names, name) {
			g.order = append(g.order, len(g.names))
			g.names = append(g.names, name)
		}
	}
	slices.SortFunc(g.order, func(i, j int) int {
		if g.names[i] < g.names[j] {
			return -1
		}
		return 1
	})
	return g, nil
}

// what is what errors about all of it name.
func (g *gathering) what() string { return fmt.Sprintf("%d names", len(g.names)) }

// acquire takes all or none.
func (g *gathering) acquire(ctx context.Context) (*bundle, error) {
	b, _, err := g.together(ctx, -1)
	for err != nil {
		if g.mode != Wait || !g.again(ctx, err) {
			return nil, err
		}
		var missing int
		if b, missing, err = g.oneByOne(ctx); err == nil || missing < 0 {
			continue
		}
		if !g.again(ctx, err) {
			return nil, err
		}
		b, _, err = g.together(ctx, missing)
	}
	return b, nil
}

// again tells whether an attempt at all of it that failed is worth another.
func (g *gathering) again(ctx context.Context, err error) bool {
	return g.k.worthWaiting(ctx, err) && g.policy(never).Retry(Attempt{Err: err}).Again
}

// together takes one name, waiting for it if that is not -1, and then tries all others at once.
func (g *gathering) together(ctx context.Context, first int) (*bundle, int, error) {
	b := newBundle(ctx)
	taken := make([]*holding, len(g.names))
	errs := make([]error, len(g.names))
	if first >= 0 {
		if taken[first], errs[first] = g.wait(b, first, never); errs[first] != nil {
			return g.letGo(ctx, b, taken, first, errs[first])
		}
	}
	var calls sync.WaitGroup
	for i := range g.names {
		if i != first {
			calls.Go(func() {
				taken[i], errs[i] = g.k.claimClean(b, g.names[i], manner{terms: g.terms, force: g.mode == Force})
				if errs[i] == nil {
					errs[i] = b.joins(taken[i])
				}
			})
		}
	}
	calls.Wait()
	if missing := g.worst(errs); missing >= 0 {
		return g.letGo(ctx, b, taken, missing, errs[missing])
	}
	b.members = taken
	return b, -1, nil
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
	most := never // with empty hands
	for _, i := range g.order {
		var err error
		if taken[i], err = g.wait(b, i, most); err != nil {
			return g.letGo(ctx, b, taken, i, err)
		}
		most = jitter.Between(g.terms.validity/2, g.terms.validity)
	}
	b.members = taken
	return b, -1, nil
}

// wait takes one name, waiting for it for at most so long beyond what the caller's policy allows.
func (g *gathering) wait(b *bundle, i int, most time.Duration) (*holding, error) {
	t := *g.terms
	if most != never || t.Retry != nil {
		t.Retry = g.policy(most)
	}
	l, err := g.k.wait(b, g.names[i], &t)
	if err != nil {
		return nil, err
	}
	return l, b.joins(l)
}

// policy is the caller's policy, for all attempts of the call, with a time limit for one wait.
func (g *gathering) policy(most time.Duration) RetryPolicy {
	return RetryFunc(func(a Attempt) Retry {
		if a.Elapsed >= most {
			return Retry{}
		}
		left := most - a.Elapsed
		if g.terms.Retry == nil {
			return Retry{Again: true, After: left}
		}
		g.asked++
		a.Number, a.Elapsed = g.asked, g.k.now()-g.began
		r := g.terms.Retry.Retry(a)
		r.After = min(r.After, left)
		return r
	})
}

// letGo gives back what was taken, all at once, because one name could not be had, and passes that on.
func (g *gathering) letGo(ctx context.Context, b *bundle, taken []*holding, missing int, err error) (*bundle, int, error) {
	b.end(err)
	g.k.cancelAll(ctx, slices.DeleteFunc(taken, func(l *holding) bool { return l == nil }))
	return nil, missing, err
}
