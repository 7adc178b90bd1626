package ctxlock_test

import (
	"context"
	"errors"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// longestWait has a locker take and release a name until ctx ends. It gives its longest wait, and
// how often it held the lock.
func longestWait(ctx context.Context, l ctxlock.Locker, name string) (longest time.Duration, held int) {
	GinkgoHelper()
	for ctx.Err() == nil {
		start := time.Now()
		_, release, err := l.WithContext(ctx, name)
		longest = max(longest, time.Since(start))
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		Expect(err).NotTo(HaveOccurred())
		held++
		time.Sleep(time.Millisecond) // the guarded work
		release()
	}
	return longest, held
}

// subscribers is how many lockers listen for messages.
func subscribers(s *lab.Server) int {
	GinkgoHelper()
	channels, err := s.Do("PUBSUB", "CHANNELS", "valkeylock:m:*")
	Expect(err).NotTo(HaveOccurred())
	return len(channels.([]any))
}

var _ = Describe("A subscription", Label("control"), func() {
	It("that is cut again and again is back at once, and its locker waits no longer than that takes", func() {
		s, name := server(), unique()
		p := proxy(s)
		option := plain.option(p.Addr())
		option.KeyValidity = 5 * time.Second // a waiter that is not told looks after three quarters of it
		struck := locker(option)
		for range 8 {
			before := p.Accepted()
			p.Cut()
			Eventually(p.Accepted).WithTimeout(time.Second).Should(BeNumerically(">", before))
			Eventually(func() int { return subscribers(s) }).WithTimeout(time.Second).Should(Equal(1))
		}

		option.ClientOption.InitAddress = []string{s.Addr()}
		ctx, end := context.WithTimeout(context.Background(), 2*time.Second)
		defer end()
		var work sync.WaitGroup
		defer work.Wait()
		for range 3 {
			l := locker(option)
			work.Go(func() {
				defer GinkgoRecover()
				longestWait(ctx, l, name)
			})
		}
		work.Go(func() {
			cut := time.NewTicker(200 * time.Millisecond)
			defer cut.Stop()
			for ctx.Err() == nil {
				p.Cut()
				select {
				case <-cut.C:
				case <-ctx.Done():
				}
			}
		})
		longest, held := longestWait(ctx, struck, name)
		GinkgoWriter.Println("longest wait", longest, "of", held)
		Expect(held).To(BeNumerically(">", 10))
		Expect(longest).To(BeNumerically("<", time.Second))
	})
})
