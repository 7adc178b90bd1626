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

// replicated starts a primary with replicas.
func replicated(replicas int) *lab.Replicated {
	GinkgoHelper()
	r, err := lab.StartReplicated(replicas, lab.Config{})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(r.Stop)
	return r
}

// acknowledged gives the figures of the error of a lock that too few replicas have.
func acknowledged(err error) ctxlock.ReplicaError {
	GinkgoHelper()
	var missing *ctxlock.ReplicaError
	Expect(errors.As(err, &missing)).To(BeTrue(), "%v", err)
	Expect(err).NotTo(MatchError(ctxlock.ErrNotLocked))
	return *missing
}

var _ = Describe("A lock that replicas must have", Label("control"), func() {
	const patience = 300 * time.Millisecond
	on := func(m mix, r *lab.Replicated) ctxlock.LockerOption {
		option := m.option(r.Primary.Addr())
		option.TryNextAfter = patience
		return option
	}

	for _, m := range []mix{{majority: 1}, {majority: 2}, {majority: 1, noLoop: true}, {majority: 1, setPX: true}, {majority: 1, polling: true}} {
		It("counts when they do, and not before ("+m.String()+")", func() {
			r := replicated(2)
			a := locker(on(m, r))
			both := ctxlock.AcquireOption{Mode: ctxlock.Try, Replicas: 2}
			name := unique()
			_, lock := handle(a, name, both)
			for _, replica := range r.Replicas {
				Expect(replica.Do("GET", firstKey(name))).To(Equal(lock.Value()), "it is there when Acquire returns")
			}
			Expect(lock.Release(bg())).To(Succeed())

			for _, direction := range []lab.Direction{lab.Down, lab.Up} {
				r.Link(1).Stall(direction)
				_, other := handle(a, unique(), ctxlock.AcquireOption{Mode: ctxlock.Try, Replicas: 1})
				start := time.Now()
				_, _, err := a.Acquire(bg(), unique(), both)
				Expect(acknowledged(err)).To(Equal(ctxlock.ReplicaError{Acknowledged: 1, Wanted: 2}))
				Expect(time.Since(start)).To(BeNumerically("<", patience+busy), "within the time of an attempt")
				Expect(other.Release(bg())).To(Succeed())
				nothingLeft(r.Primary, soon)

				waiter := make(chan error, 1)
				go func() {
					_, lock, err := a.Acquire(bg(), unique(), ctxlock.AcquireOption{Replicas: 2})
					waiter <- errors.Join(err, lock.Release(bg()))
				}()
				Consistently(waiter, 2*patience).ShouldNot(Receive())
				r.Link(1).Heal()
				Eventually(waiter).WithTimeout(5 * time.Second).Should(Receive(BeNil()))
			}
			nothingLeft(r.Primary, soon)
		})
	}

	It("does not hold up others of its locker meanwhile", func() {
		r := replicated(1)
		option := on(plain, r)
		option.TryNextAfter = 2 * time.Second
		a := locker(option)
		r.Link(0).Stall(lab.Down)
		failing := begin(bg(), func(ctx context.Context, name string) (context.Context, context.CancelFunc, error) {
			ctx, lock, err := a.Acquire(ctx, name, ctxlock.AcquireOption{Mode: ctxlock.Try, Replicas: 1})
			return ctx, func() { _ = lock.Release(bg()) }, err
		}, unique(), nil)
		Eventually(func() int64 { return r.Primary.Calls("set") }).Should(BeNumerically(">", 0))
		for range 20 {
			Expect(func() { take(bg(), a.TryWithContext, unique()).release() }).To(takeLessThan(busy))
		}
		Expect(failing.done).NotTo(BeClosed(), "it is still waiting for the replica")
		acknowledged(failing.fails(3 * time.Second))
	})

	for _, noQueue := range []bool{false, true} {
		It(fmt.Sprintf("leaves it to others while replicas are missing, and is had soon once they are there (without a queue: %t)", noQueue), func() {
			r := replicated(1)
			contest := newContest(4)
			makes := locker
			if noQueue {
				makes = queueless
			}
			wants := makes(plain.option(r.Primary.Addr()))
			contest.enter(bg(), 0, wants.WithContext) // another caller of the one that wants replicas
			for i := range contest.visits[1:] {
				contest.enter(bg(), i+1, makes(plain.option(r.Primary.Addr())).WithContext)
			}
			Eventually(contest.handoffs).WithTimeout(soon).Should(BeNumerically(">", 50))
			within := func(d time.Duration, waiter *pending) (all, beside int64) {
				GinkgoHelper()
				all, beside = contest.handoffs(), contest.visits[0].Load()
				Consistently(waiter.done, d).ShouldNot(BeClosed())
				return contest.handoffs() - all, contest.visits[0].Load() - beside
			}
			all, beside := within(validity, &pending{done: make(chan struct{})})

			r.Link(0).Stall(lab.Down)
			waiter := begin(bg(), func(ctx context.Context, name string) (context.Context, context.CancelFunc, error) {
				ctx, lock, err := wants.Acquire(ctx, name, ctxlock.AcquireOption{Replicas: 1})
				return ctx, func() { _ = lock.Release(bg()) }, err
			}, contest.name, &contest.check)
			left, leftBeside := within(2*validity, waiter)
			GinkgoWriter.Printf("%d and %d before, %d and %d in twice that time\n", all, beside, left, leftBeside)
			Expect(left).To(BeNumerically(">", all*2/3), "at least a third of what they had without it")
			Expect(leftBeside).To(BeNumerically(">", beside/2), "those of its own locker, too")

			r.Link(0).Heal()
			held := waiter.gets(soon + busy)
			held.release()
			contest.over()
			nothingLeft(r.Primary, soon)
		})
	}

	It("is not had where there are no replicas, and says so, also at the end of a wait", func() {
		s, name := server(), unique()
		option := plain.option(s.Addr())
		option.TryNextAfter = patience
		a := locker(option)
		ctx, cancel := context.WithTimeout(bg(), 3*patience)
		defer cancel()
		_, _, err := a.Acquire(ctx, name, ctxlock.AcquireOption{Replicas: 1})
		Expect(err).To(MatchError(context.DeadlineExceeded))
		Expect(acknowledged(err)).To(Equal(ctxlock.ReplicaError{Acknowledged: 0, Wanted: 1}))
		nothingLeft(s, soon)
	})

	It("is had on a cluster, from each key's own replicas", func() {
		c, err := lab.StartCluster(3, 1, lab.Config{})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(c.Stop)
		a := locker(mix{majority: 2}.option(c.Addrs()...))
		for range 5 {
			_, lock := handle(a, unique(), ctxlock.AcquireOption{Replicas: 1, Fencing: true})
			Expect(lock.Token()).To(BeNumerically(">", 0))
			Expect(lock.Release(bg())).To(Succeed())
		}
		_, _, err = a.Acquire(bg(), unique(), ctxlock.AcquireOption{Mode: ctxlock.Try, Replicas: 2})
		acknowledged(err)
	})

	It("outlives its primary, whose replica lags behind, and without that is given away again", func() {
		for _, replicas := range []int{0, 1} {
			r := replicated(1)
			r.Link(0).Delay(20 * time.Millisecond)
			a := locker(on(plain, r))
			name := unique()
			_, lock := handle(a, name, ctxlock.AcquireOption{Mode: ctxlock.Try, Replicas: replicas})
			r.Primary.Kill()
			Expect(r.Promote(0)).To(Succeed())
			b := locker(plain.option(r.Replicas[0].Addr()))
			_, _, err := b.TryWithContext(bg(), name)
			if replicas == 0 {
				Expect(err).NotTo(HaveOccurred(), "the replica never heard of it")
			} else {
				Expect(err).To(MatchError(ctxlock.ErrNotLocked), fmt.Sprint(lock.Until()))
			}
		}
	})
})
