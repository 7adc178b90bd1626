package main

import (
	"github.com/valkey-io/valkey-go/valkeylock"
)

// theirs is valkeylock.
func theirs(n int32) Contender {
	return Contender{
		Library: "valkeylock", Setup: majority(n), Module: "github.com/valkey-io/valkey-go", Extends: true,
		Note: "NoLoopTracking, as its documentation advises; defaults otherwise, but for " + patient,
		Open: func(at site) (Locker, error) {
			l, err := valkeylock.NewLocker(valkeylock.LockerOption{
				KeyMajority: n, NoLoopTracking: true, KeyPrefix: "valkeylock", KeyValidity: at.validity, ExtendInterval: at.interval,
				TryNextAfter: tryNextOf(at), ClientOption: client(at.valkey[0]),
			})
			if err != nil {
				return nil, err
			}
			return dropInLocker{l, valkeylock.ErrNotLocked}, nil
		},
	}
}
