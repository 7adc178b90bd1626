package ctxlock_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// listed collects what List finds.
func listed(l ctxlock.Locker) (names []string) {
	GinkgoHelper()
	for status, err := range l.List(bg()) {
		Expect(err).NotTo(HaveOccurred())
		Expect(status.Held).To(BeTrue())
		names = append(names, status.Name)
	}
	slices.Sort(names)
	return names
}

var _ = Describe("Look", func() {
	forEachMix("tells who holds a name, since and until when, and who waits", func(m mix) {
		s, name := server(), unique()
		a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
		Expect(b.Look(bg(), name)).To(Equal(ctxlock.Status{Name: name}))
		began := time.Now()
		_, lock := handle(a, name, ctxlock.AcquireOption{Value: "host", Metadata: "job 7"})
		status, err := b.Look(bg(), name)
		Expect(err).NotTo(HaveOccurred())
		Expect(status.Held).To(BeTrue())
		Expect(status.Value).To(Equal(lock.Value()))
		Expect(status.Metadata).To(Equal("job 7"))
		Expect(status.Since).To(BeTemporally("~", began, 50*time.Millisecond))
		Expect(status.TTL).To(BeNumerically("~", validity*3/4, validity/3))
		Expect(status.Until).To(BeTemporally("~", time.Now().Add(status.TTL), 100*time.Millisecond))
		Expect(status.Waiting).To(BeZero())

		ctx, giveUp := context.WithCancel(bg())
		var waiters []*pending
		for _, l := range []ctxlock.Locker{a, a, a, b, b} {
			waiters = append(waiters, begin(ctx, l.WithContext, name, nil))
		}
		waiting := func() int {
			status, err := b.Look(bg(), name)
			Expect(err).NotTo(HaveOccurred())
			return status.Waiting
		}
		Eventually(waiting).WithTimeout(2 * time.Second).Should(Equal(5))
		giveUp()
		for _, w := range waiters {
			w.fails(soon)
		}
		Eventually(waiting).WithTimeout(2 * time.Second).Should(BeZero())
		Expect(lock.Release(bg())).To(Succeed())
		nothingLeft(s, soon)
	})

	It("takes whatever it finds", func() {
		s, name := server(), unique()
		a := locker(plain.option(s.Addr()))
		for _, value := range []string{"foreign", "", "ctxlock/", "ctxlock/x/y", "ctxlock/a.zzzzzzzzzzzzzz/b.zzzzzzzzzzzzzz", "\n\n", "ctxlock/a.b/c.d/e\nmeta\ndata"} {
			Expect(s.Do("SET", firstKey(name), value)).To(Equal("OK"))
			status, err := a.Look(bg(), name)
			Expect(err).NotTo(HaveOccurred())
			Expect(status.Held).To(BeTrue(), "%q", value)
			Expect(status.TTL).To(Equal(time.Duration(math.MaxInt64)))
			Expect(status.Until).To(BeZero())
		}
		Expect(s.Do("DEL", firstKey(name))).To(Equal(int64(1)))
		Expect(s.Do("LPUSH", firstKey(name), "x")).To(Equal(int64(1)))
		_, err := a.Look(bg(), name)
		Expect(err).To(MatchError(ContainSubstring("WRONGTYPE")))
		Expect(listedErr(a)).NotTo(HaveOccurred(), "List passes over what is no lock")
	})

	It("reports what keeps it from looking", Label("control"), func() {
		s := server()
		a := locker(plain.option(s.Addr()))
		_, err := a.Look(bg(), "")
		Expect(err).To(MatchError(ContainSubstring("empty name")))
		_, err = a.Look(noContext, "x")
		Expect(err).To(MatchError(ContainSubstring("nil context")))
		ended, end := context.WithCancel(bg())
		end()
		_, err = a.Look(ended, "x")
		Expect(err).To(MatchError(context.Canceled))
		s.Freeze()
		_, err = a.Look(bg(), "x")
		Expect(err).To(HaveOccurred())
		s.Thaw()
		a.Close()
		_, err = a.Look(bg(), "x")
		Expect(err).To(MatchError(ctxlock.ErrLockerClosed))
		Expect(listedErr(a)).To(MatchError(ctxlock.ErrLockerClosed))
	})
})

// listedErr is the error that List ends with.
func listedErr(l ctxlock.Locker) (last error) {
	for _, err := range l.List(bg()) {
		last = err
	}
	return last
}

var _ = Describe("List", func() {
	forEachMix("finds all names that are held, once, and no others", func(m mix) {
		s := server()
		option := m.option(s.Addr())
		option.KeyPrefix = "odd*[prefix]?"
		option.KeyValidity = 10 * time.Second // a step of List has a fraction of it, and servers may be busy
		a := locker(option)
		other := option
		other.KeyPrefix = "oddx[prefix]?"
		b := locker(other)
		handle(b, "not mine", ctxlock.AcquireOption{})
		var want []string
		for i := range 300 {
			name := fmt.Sprintf("name %03d", i)
			want = append(want, name)
			handle(a, name, ctxlock.AcquireOption{Validity: time.Minute, Fencing: i%2 == 0})
		}
		for i := range 2000 {
			Expect(s.Do("SET", fmt.Sprint("odd*[prefix]?:foreign:", i), "x")).To(Equal("OK"))
		}
		Expect(listed(a)).To(Equal(want))
		for range a.List(bg()) {
			break // one is enough
		}
		ctx, end := context.WithCancel(bg())
		end()
		for _, err := range a.List(ctx) {
			Expect(err).To(MatchError(context.Canceled))
		}
	})

	It("finds those of all nodes of a cluster", func() {
		c, err := lab.StartCluster(3, 1, lab.Config{})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(c.Stop)
		a := locker(mix{majority: 2}.option(c.Addrs()...))
		var want []string
		for i := range 50 {
			name := fmt.Sprintf("name %02d", i)
			want = append(want, name)
			handle(a, name, ctxlock.AcquireOption{Validity: time.Minute})
		}
		Expect(listed(a)).To(Equal(want))
	})
})
