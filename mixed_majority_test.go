package ctxlock_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/onsi/gomega/types"

	"github.com/ctxlock/ctxlock"
)

// pairsOfMajorities are all in which the two differ.
var pairsOfMajorities = [][2]int32{{1, 2}, {1, 3}, {2, 3}, {2, 1}, {3, 1}, {3, 2}}

// beClash matches the error of a claim that met another majority.
func beClash(ours, theirs int32) types.GomegaMatcher {
	return WithTransform(func(err error) []int32 {
		var clash *ctxlock.MajorityError
		if !errors.As(err, &clash) {
			return []int32{0, 0}
		}
		Expect(err).NotTo(MatchError(ctxlock.ErrNotLocked))
		Expect(err.Error()).To(And(ContainSubstring(fmt.Sprint("KeyMajority is ", ours)), ContainSubstring(fmt.Sprint(theirs))))
		return []int32{int32(clash.Ours), int32(clash.Theirs)}
	}, Equal([]int32{ours, theirs}))
}

var _ = Describe("Lockers with different majorities", func() {
	for _, noQueue := range []bool{false, true} {
		It(fmt.Sprintf("refuse each other's locks with an error that names both, at once (no queue %t)", noQueue), func() {
			s := server()
			together(pairsOfMajorities, func(pair [2]int32) {
				holds := locker(mix{majority: pair[0]}.option(s.Addr()))
				claims := contending(mix{majority: pair[1]}.option(s.Addr()), ctxlock.Contention{NoQueue: noQueue})
				name := unique()
				ctx, lock, err := holds.Acquire(bg(), name, ctxlock.AcquireOption{})
				Expect(err).NotTo(HaveOccurred())
				expectClash := func(err error) {
					GinkgoHelper()
					Expect(err).To(beClash(pair[1], pair[0]))
				}
				_, _, err = claims.TryWithContext(bg(), name)
				expectClash(err)
				for range 3 { // the first attempt, and then from the queue, since the name was contended
					expectClash(begin(bg(), claims.WithContext, name, nil).fails(soon))
				}
				_, _, err = claims.Acquire(bg(), name, ctxlock.AcquireOption{Mode: ctxlock.Try, From: lock.Value()})
				expectClash(err)
				_, _, err = claims.Acquire(bg(), name, ctxlock.AcquireOption{Mode: ctxlock.Try, Fencing: true})
				expectClash(err)
				_, _, err = claims.AcquireAll(bg(), []string{unique(), name}, ctxlock.AcquireOption{})
				expectClash(err)
				Consistently(ctx.Err, validity).Should(Succeed(), "the holder keeps it")
				Expect(lock.Release(bg())).To(Succeed())
				take(bg(), claims.WithContext, name).release()
			})
		})
	}

	It("take a lock from a holder that crashed when its keys have run out", func() {
		s := server()
		together(pairsOfMajorities, func(pair [2]int32) {
			name, claims := unique(), locker(mix{majority: pair[1]}.option(s.Addr()))
			ctx, stop := context.WithCancel(bg())
			_, _, err := locker(mix{majority: pair[0]}.option(s.Addr())).WithContext(ctx, name)
			Expect(err).NotTo(HaveOccurred())
			stop() // it is no longer extended
			Eventually(func() error {
				_, release, err := claims.TryWithContext(bg(), name)
				release()
				return err
			}, 2*validity, 20*time.Millisecond).Should(Succeed())
		})
		nothingLeft(s, soon)
	})

	It("still refuse what an older version holds by its keys alone", func() {
		s, name := server(), unique()
		const older = "ctxlock/abcdefghijklmnop.mi2x3k4l/5a6b7c"
		interfere(s, "SET", key(0, name), older, "PX", "60000")
		_, _, err := locker(mix{majority: 1}.option(s.Addr())).TryWithContext(bg(), name)
		Expect(err).To(MatchError(ctxlock.ErrNotLocked))
		take(bg(), locker(mix{majority: 2}.option(s.Addr())).WithContext, name).release()
	})
})

var _ = Describe("Beside valkeylock with another majority", func() {
	for _, noQueue := range []bool{false, true} {
		It(fmt.Sprintf("neither takes what the other holds (no queue %t)", noQueue), func() {
			s := server()
			together(pairsOfMajorities, func(pair [2]int32) {
				holds, claims := mix{majority: pair[0]}, mix{majority: pair[1]}
				option := holds.option(s.Addr())
				option.TryNextAfter = soon // else it does without keys whose answers are late
				name, theirs := unique(), peer(option)
				held, release, err := theirs.WithContext(bg(), name)
				Expect(err).NotTo(HaveOccurred())
				ours := contending(claims.option(s.Addr()), ctxlock.Contention{NoQueue: noQueue})
				_, _, err = ours.TryWithContext(bg(), name)
				Expect(err).To(MatchError(ctxlock.ErrNotLocked), "%v", pair)
				check := new(checker)
				check.enter(held)
				waiter := begin(bg(), ours.WithContext, name, check)
				Consistently(waiter.done, validity/2).ShouldNot(BeClosed(), "%v", pair)
				release()
				waiter.gets(2*validity + soon)
				check.exclusive()

				_, _, err = theirs.TryWithContext(bg(), name)
				Expect(err).To(HaveOccurred(), "and the other way round: %v", pair)
				waiter.release()
			})
		})
	}

	It("a key that is neither's, on a minority, keeps nobody out", func() {
		s := server()
		for _, value := range []string{theirs, "ctxlock/abcdefghijklmnop.mi2x3k4l/5a6b7c", ""} {
			for i := range 3 {
				name := unique()
				interfere(s, "SET", key(i, name), value)
				l := locker(mix{majority: 2}.option(s.Addr()))
				take(bg(), l.TryWithContext, name).release()
				take(bg(), l.WithContext, name).release()
			}
		}
		name := unique()
		interfere(s, "SET", key(2, name), theirs[:24], "PX", "60000") // valkeylock with majority 2 would not come to it
		take(bg(), locker(mix{majority: 2}.option(s.Addr())).TryWithContext, name).release()
	})
})
