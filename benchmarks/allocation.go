package main

import (
	"fmt"
	"testing"
)

// allocations counts those of one acquire and release, exactly, with nothing else going on.
func allocations(p *park) error {
	at, err := p.site(near)
	if err != nil {
		return err
	}
	for _, who := range []Contender{bare(), ours(1), theirs(1), ours(2), theirs(2)} {
		l, err := who.Open(at)
		if err != nil {
			return err
		}
		var failure error
		count := testing.AllocsPerRun(5000, func() {
			unlock, err := l.TryLock(background, "allocations")
			if err != nil {
				failure = err
				return
			}
			unlock()
		})
		l.Close()
		if failure != nil {
			return fmt.Errorf("%v: %w", who, failure)
		}
		fmt.Printf("  %-26s %5.1f allocations for acquire and release\n", who, count)
	}
	fmt.Println("  -> ctxlock, majority 1: at most 16")
	return nil
}
