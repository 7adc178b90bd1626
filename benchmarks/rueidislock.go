package main

import (
	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidislock"
)

// elder is rueidislock, of which valkeylock is a copy.
func elder(n int32) Contender {
	return Contender{
		Library: "rueidislock", Setup: majority(n), Module: "github.com/redis/rueidis", Extends: true,
		Note: "as valkeylock",
		Open: func(at site) (Locker, error) {
			l, err := rueidislock.NewLocker(rueidislock.LockerOption{
				KeyMajority: n, NoLoopTracking: true, KeyPrefix: "rueidislock", KeyValidity: at.validity, ExtendInterval: at.interval,
				TryNextAfter: tryNextOf(at),
				ClientOption: rueidis.ClientOption{
					InitAddress: []string{at.valkey[0]}, ReadBufferEachConn: 32 << 10, WriteBufferEachConn: 32 << 10, Dialer: dialer(),
				},
			})
			if err != nil {
				return nil, err
			}
			return dropInLocker{l, rueidislock.ErrNotLocked}, nil
		},
	}
}
