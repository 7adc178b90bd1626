package main

import (
	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidislock"
)

// rueidislocks is rueidislock, of which valkeylock is a copy.
func rueidislocks() Contender {
	return Contender{
		Library: "rueidislock", Module: "github.com/redis/rueidis",
		Note: "As valkeylock.",
		Own:  under("rueidislock:"),
		Open: func(at Place) (Locker, error) {
			l, err := rueidislock.NewLocker(rueidislock.LockerOption{
				KeyMajority: 1, NoLoopTracking: true, KeyValidity: at.Validity, ClientOption: rueidisClient(at),
			})
			return dropInLocker{l}, err
		},
	}
}

func rueidisClient(at Place) rueidis.ClientOption {
	option := rueidis.ClientOption{InitAddress: at.Servers}
	if at.Kind == Sentinel {
		option.Sentinel = rueidis.SentinelOption{MasterSet: at.Primary}
	}
	return option
}
