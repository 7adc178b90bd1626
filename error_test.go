package ctxlock_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// within is a context of a call that is to be cut short.
func within(d time.Duration) context.Context {
	GinkgoHelper()
	ctx, end := context.WithTimeout(context.Background(), d)
	DeferCleanup(func() { end() })
	return ctx
}

// listError is the error that ends a List, if any does.
func listError(ctx context.Context, l ctxlock.Locker) (err error) {
	for _, err = range l.List(ctx) {
	}
	return err
}

var _ = Describe("No answer in time", Label("control"), func() {
	It("is found in the errors of all calls", func() {
		s, name, held := server(), unique(), unique()
		p := proxy(s)
		option := plain.option(p.Addr())
		option.KeyValidity, option.TryNextAfter = 4*time.Second, 200*ms
		l := locker(option)
		ctx, lock := handle(l, held, ctxlock.AcquireOption{})
		_, other := handle(l, unique(), ctxlock.AcquireOption{})
		p.Stall(lab.Both)
		for _, c := range calls[1:] {
			_, _, err := c.take(l, bg(), name)
			Expect(err).To(MatchError(ctxlock.ErrNoAnswer), c.name)
			_, _, err = c.take(l, within(50*ms), name)
			Expect(err).To(And(MatchError(ctxlock.ErrNoAnswer), MatchError(context.DeadlineExceeded)), c.name)
		}
		_, _, err := l.WithContext(within(300*ms), name)
		Expect(err).To(And(MatchError(ctxlock.ErrNoAnswer), MatchError(context.DeadlineExceeded)))
		_, _, err = l.AcquireAll(bg(), []string{name, name + " too"}, ctxlock.AcquireOption{Mode: ctxlock.Try})
		Expect(err).To(MatchError(ctxlock.ErrNoAnswer))
		for _, ctx := range []func() context.Context{bg, func() context.Context { return within(50 * ms) }} {
			_, err = l.Look(ctx(), name)
			Expect(err).To(MatchError(ctxlock.ErrNoAnswer))
			Expect(listError(ctx(), l)).To(MatchError(ctxlock.ErrNoAnswer))
			_, err = lock.TTL(ctx())
			Expect(err).To(MatchError(ctxlock.ErrNoAnswer))
		}
		Expect(lock.Extend(within(50*ms), 0)).To(MatchError(ctxlock.ErrNoAnswer))
		err = other.Release(bg())
		var untold *ctxlock.ReleaseError
		Expect(errors.As(err, &untold)).To(BeTrue(), "%v", err)
		Expect(err).To(MatchError(ctxlock.ErrNoAnswer))
		var lost *ctxlock.LostError
		Expect(errors.As(end(ctx, 4*time.Second+soon), &lost)).To(BeTrue())
		Expect(lost).To(MatchError(ctxlock.ErrNoAnswer))
		Expect(lost.Err).To(MatchError(ctxlock.ErrNoAnswer))
		Expect(ctxlock.IsPermanent(lost)).To(BeFalse())
	})

	It("is found for each of independent nodes", func() {
		d := independent(3)
		option := d.option()
		option.KeyValidity, option.TryNextAfter = 4*time.Second, 200*ms
		l := d.redlockOnAll(option)
		_, lock := handle(l, unique(), ctxlock.AcquireOption{})
		d.links[0].Stall(lab.Both)
		d.links[1].Stall(lab.Both)
		_, _, err := l.TryWithContext(bg(), unique())
		check := func(err error) {
			GinkgoHelper()
			var quorum *ctxlock.QuorumError
			Expect(errors.As(err, &quorum)).To(BeTrue(), "%v", err)
			Expect(err).To(MatchError(ctxlock.ErrNoAnswer))
			Expect(ctxlock.IsPermanent(err)).To(BeFalse())
			for _, node := range quorum.Nodes[:2] {
				Expect(node.Outcome).To(Equal(ctxlock.NodeLate))
				Expect(node.Err).To(MatchError(ctxlock.ErrNoAnswer))
			}
		}
		check(err)
		_, err = l.Look(bg(), lock.Name())
		check(err)
		check(lock.Extend(bg(), 0))
	})
})

var _ = Describe("IsPermanent", func() {
	It("tells errors that waiting cannot mend from those that it can", func() {
		s, name := server(), unique()
		l := locker(plain.option(s.Addr()))
		Expect(s.Do("RPUSH", firstKey(name), "a list")).To(BeEquivalentTo(1))
		_, _, wrongType := l.TryWithContext(bg(), name)
		_, _, noName := l.TryWithContext(bg(), "")
		_, _, noContext := l.TryWithContext(noContext, "x")
		_, _, noNames := l.AcquireAll(bg(), nil, ctxlock.AcquireOption{})
		_, _, tooShort := l.Acquire(bg(), name, ctxlock.AcquireOption{Validity: 30})
		_, _, badValue := l.Acquire(bg(), unique(), ctxlock.AcquireOption{ValueFunc: func() (string, error) { return "", nil }})
		_, badOption := ctxlock.NewLocker(ctxlock.LockerOption{KeyMajority: -1})
		_, badNodes := ctxlock.NewRedlock(ctxlock.RedlockOption{})
		_, lock := handle(l, unique(), ctxlock.AcquireOption{})
		badExtension := lock.Extend(bg(), 30)
		for what, err := range map[string]error{
			"a key of another type": wrongType, "an empty name": noName, "no context": noContext, "no names": noNames,
			"a validity without its unit": tooShort, "a value that is none": badValue, "an option": badOption, "no nodes": badNodes,
			"an extension without its unit": badExtension, "a locker that is closed": ctxlock.ErrLockerClosed,
			"one that is wrapped": fmt.Errorf("on Monday: %w", wrongType),
		} {
			Expect(err).To(HaveOccurred(), what)
			Expect(ctxlock.IsPermanent(err)).To(BeTrue(), "%s: %v", what, err)
		}

		_, _, taken := locker(plain.option(s.Addr())).TryWithContext(bg(), lock.Name())
		Expect(taken).To(MatchError(ctxlock.ErrNotLocked))
		ended, end := context.WithCancel(bg())
		end()
		_, _, cancelled := l.TryWithContext(ended, name)
		for what, err := range map[string]error{
			"held by another": taken, "a context that has ended": cancelled, "nothing": nil, "no answer": ctxlock.ErrNoAnswer,
			"a loss": &ctxlock.LostError{Reason: ctxlock.Expired}, "released": ctxlock.ErrReleased,
		} {
			Expect(ctxlock.IsPermanent(err)).To(BeFalse(), "%s: %v", what, err)
		}
	})
})
