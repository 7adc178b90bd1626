package ctxlock_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/valkey-io/valkey-go/valkeylock"

	"github.com/ctxlock/ctxlock"
)

// A fleet that moves from valkeylock to ctxlock runs both for a while.

// peer makes a locker of valkeylock, from the options that one of ctxlock has.
func peer(option ctxlock.LockerOption) valkeylock.Locker {
	GinkgoHelper()
	l, err := valkeylock.NewLocker(valkeylock.LockerOption(option))
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(l.Close)
	return l
}

// room is what a lock guards: nobody else is in it, and what is written in it is not overwritten.
type room struct {
	inside   atomic.Int64
	overlaps atomic.Int64
	page     atomic.Int64 // read, and written later
}

// visit is a stay in the room while ctx lives. It reports whether ctx lived to the end, so that what was written counts.
func (r *room) visit(ctx context.Context) bool {
	if r.inside.Add(1) > 1 {
		r.overlaps.Add(1)
	}
	defer r.inside.Add(-1)
	read := r.page.Load()
	time.Sleep(50 * time.Microsecond) // long enough for another to come in between
	if ctx.Err() != nil {
		return false
	}
	r.page.Store(read + 1)
	return true
}

// waitCall is WithContext of a locker.
type waitCall = func(ctx context.Context, name string) (context.Context, context.CancelFunc, error)

// retrying is valkeylock's WithContext, asking again now and then, since its waiters miss releases, even among themselves
// (v1.0.79). What it waits with has not ended when it comes back with a lock: valkeylock takes that for a release, and lets the
// next one in at once.
func retrying(l valkeylock.Locker) waitCall {
	return func(ctx context.Context, name string) (context.Context, context.CancelFunc, error) {
		for {
			attempt, end := context.WithCancel(ctx)
			impatience := time.AfterFunc(100*time.Millisecond, end)
			held, cancel, err := l.WithContext(attempt, name)
			if impatience.Stop() {
				return held, func() { cancel(); end() }, err
			}
			if err == nil {
				cancel()
			}
			if ctx.Err() != nil {
				end()
				return held, func() {}, ctx.Err()
			}
		}
	}
}

// peerMixes are those that valkeylock has, too.
var peerMixes = []mix{
	{majority: 1}, {majority: 2}, {majority: 1, noLoop: true}, {majority: 2, noLoop: true},
	{majority: 1, setPX: true}, {majority: 1, polling: true}, {majority: 2, polling: true},
}

var _ = Describe("In one fleet with valkeylock", func() {
	for _, m := range peerMixes {
		It("each excludes the other, and each makes progress ("+m.String()+")", func() {
			s, name := server(), unique()
			option := m.option(s.Addr())
			option.KeyValidity = 5 * time.Second
			var takers []waitCall
			for range 2 {
				theirs := peer(option)
				takers = append(takers, locker(option).WithContext, retrying(theirs))
			}
			ctx := bg()
			var stop atomic.Bool
			var room room
			visits := make([]atomic.Int64, len(takers))
			var work sync.WaitGroup
			for i, take := range takers {
				for range 2 {
					work.Go(func() {
						defer GinkgoRecover()
						for !stop.Load() {
							held, cancel, err := take(ctx, name)
							Expect(err).NotTo(HaveOccurred())
							if room.visit(held) {
								visits[i].Add(1)
							}
							cancel()
						}
					})
				}
			}
			ours := func() int64 { return visits[0].Load() + visits[2].Load() }
			theirs := func() int64 { return visits[1].Load() + visits[3].Load() }
			Consistently(room.overlaps.Load, 600*time.Millisecond).Should(BeZero())
			Eventually(ours, 10*time.Second).Should(BeNumerically(">=", 3))
			Eventually(theirs, 10*time.Second).Should(BeNumerically(">=", 3))
			stop.Store(true)
			work.Wait()
			GinkgoWriter.Println(ours(), "visits of ctxlock,", theirs(), "of valkeylock")
			Expect(room.overlaps.Load()).To(BeZero())
			Expect(room.page.Load()).To(Equal(ours() + theirs()))
		})
	}

	It("a lock that one holds is waited for by the other, which gets in when it is released", func() {
		s := server()
		for _, m := range peerMixes {
			name := unique()
			ours, theirs := locker(m.option(s.Addr())), peer(m.option(s.Addr()))
			for _, pair := range [][2]valkeylock.Locker{{ours, theirs}, {theirs, ours}} {
				ctx, cancel, err := pair[0].WithContext(bg(), name)
				Expect(err).NotTo(HaveOccurred())
				_, _, err = pair[1].TryWithContext(bg(), name)
				Expect(err).To(Or(MatchError(ctxlock.ErrNotLocked), MatchError(valkeylock.ErrNotLocked)), m.String())
				waiter := pair[1].WithContext
				if pair[1] == theirs {
					waiter = retrying(theirs)
				}
				in := make(chan error, 1)
				waits := bg()
				go func() {
					_, cancel, err := waiter(waits, name)
					if err == nil {
						cancel()
					}
					in <- err
				}()
				Consistently(in, 50*time.Millisecond).ShouldNot(Receive())
				Expect(ctx.Err()).NotTo(HaveOccurred())
				cancel()
				Eventually(in, 2*time.Second).Should(Receive(BeNil()), m.String())
				Eventually(func() []string { return keysOn(s) }, 2*time.Second).Should(BeEmpty(), m.String())
			}
		}
	})

	It("a lock that one holds stays held beyond its validity", func() {
		s := server()
		var checks []func(Gomega)
		for _, m := range peerMixes {
			ours, theirs := locker(m.option(s.Addr())), peer(m.option(s.Addr()))
			for _, pair := range [][2]valkeylock.Locker{{ours, theirs}, {theirs, ours}} {
				name := unique()
				ctx, cancel, err := pair[0].WithContext(bg(), name)
				Expect(err).NotTo(HaveOccurred())
				defer cancel()
				checks = append(checks, func(g Gomega) {
					_, _, err := pair[1].TryWithContext(context.Background(), name)
					g.Expect(err).To(HaveOccurred(), m.String())
					g.Expect(ctx.Err()).NotTo(HaveOccurred(), m.String())
				})
			}
		}
		Consistently(func(g Gomega) {
			for _, check := range checks {
				check(g)
			}
		}, 5*validity/2, 100*time.Millisecond).Should(Succeed())
	})

	It("a lock that one takes by force ends the other's", func() {
		s := server()
		for _, m := range peerMixes {
			ours, theirs := locker(m.option(s.Addr())), peer(m.option(s.Addr()))
			name := unique()
			held, cancel, err := ours.WithContext(bg(), name)
			Expect(err).NotTo(HaveOccurred())
			forced, release, err := theirs.ForceWithContext(bg(), name)
			Expect(err).NotTo(HaveOccurred())
			Eventually(held.Done(), 2*validity).Should(BeClosed(), m.String())
			var lost *ctxlock.LostError
			Expect(errors.As(context.Cause(held), &lost)).To(BeTrue(), fmt.Sprint(context.Cause(held)))
			Expect(lost.Reason).To(Equal(ctxlock.Taken), m.String())
			cancel()
			Expect(forced.Err()).NotTo(HaveOccurred())

			again, cancel, err := ours.ForceWithContext(bg(), name)
			Expect(err).NotTo(HaveOccurred())
			Eventually(forced.Done(), 2*validity).Should(BeClosed(), m.String())
			release()
			Expect(again.Err()).NotTo(HaveOccurred())
			cancel()
		}
	})
})
