package lab

import (
	"errors"
	"fmt"
	"time"
)

// final is an error that poll need not try again.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// poll calls f until it succeeds. Its error, after a while, says what was awaited and what the last obstacle was.
func poll(timeout time.Duration, what string, f func() error) error {
	deadline := time.Now().Add(timeout)
	for {
		err := f()
		if err == nil {
			return nil
		}
		if stop := (final{}); errors.As(err, &stop) {
			return stop.error
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("lab: waiting for %s: %w", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
