package memlock_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/memlock"
)

// sendReport is the code under test: every replica of a service calls it at midnight, and one report must be sent.
func sendReport(ctx context.Context, locker ctxlock.Locker, day string, send func(context.Context)) error {
	ctx, cancel, err := locker.TryWithContext(ctx, "report:"+day)
	if errors.Is(err, ctxlock.ErrNotLocked) {
		return nil // another replica is at it
	}
	if err != nil {
		return err
	}
	defer cancel()
	send(ctx)
	return nil
}

// A unit test of a job that must run once, however many replicas start it at the same time: two lockers on one server stand
// for two replicas.
func Example() {
	var server memlock.Server
	one, _ := server.NewLocker(ctxlock.LockerOption{})
	defer one.Close()
	two, _ := server.NewLocker(ctxlock.LockerOption{})
	defer two.Close()

	sent := 0
	err := sendReport(context.Background(), one, "monday", func(ctx context.Context) {
		sent++
		// While the first replica sends, the second one comes.
		err := sendReport(ctx, two, "monday", func(context.Context) { sent++ })
		fmt.Println("the other replica:", err)
	})
	fmt.Println("this replica:", err)
	fmt.Println("reports sent:", sent)
	// Output:
	// the other replica: <nil>
	// this replica: <nil>
	// reports sent: 1
}

// What the job does when it loses its lock can be tested, too: here somebody deletes the keys.
func ExampleServer_Flush() {
	var server memlock.Server
	locker, _ := server.NewLocker(ctxlock.LockerOption{})
	defer locker.Close()

	ctx, cancel, err := locker.WithContext(context.Background(), "name")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cancel()
	server.Flush()
	<-ctx.Done()
	fmt.Println(context.Cause(ctx))
	// Output: lock "name" lost: deleted
}
