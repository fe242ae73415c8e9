//! What a delivery report's error means: whose fault it is, and whether another try can help.

use rdkafka::error::RDKafkaErrorCode as Code;

use crate::record::sink::Failure;

/// What to do with a record whose report is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Send it again, with a producer made anew where it was a fatal error: it was not, or perhaps, written.
    Again,
    /// Tell whoever waits. `retriable`: nothing is wrong with the record, so one that nobody waits for is sent again.
    Fail {
        /// What is told.
        failure: Failure,
        /// Whether another try can help.
        retriable: bool,
    },
}

/// Sorts librdkafka's errors. Those that it retries by itself until `message.timeout.ms` arrive as a time-out.
pub(super) fn judge(code: Code) -> Verdict {
    let fail = |failure, retriable| Verdict::Fail { failure, retriable };
    match code {
        Code::Fatal | Code::Fenced | Code::PurgeQueue | Code::PurgeInflight => Verdict::Again,
        Code::MessageTimedOut | Code::OperationTimedOut | Code::BrokerTransportFailure | Code::AllBrokersDown => {
            fail(Failure::TimedOut, true)
        }
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => fail(Failure::TooLarge, false),
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => fail(Failure::NotAuthorized, true),
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            fail(Failure::UnknownTopic, true)
        }
        Code::QueueFull => fail(Failure::TimedOut, true),
        _ => fail(Failure::Refused, false),
    }
}

/// True where Kafka itself said it, and not librdkafka of its own: Kafka's codes are above zero (`rd_kafka_resp_err_t`).
pub(super) fn is_answer(code: Code) -> bool {
    code as i32 > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_librdkafka_says_of_its_own_is_no_answer_of_kafka() {
        assert!(is_answer(Code::MessageSizeTooLarge) && is_answer(Code::TopicAuthorizationFailed));
        assert!(!is_answer(Code::MessageTimedOut) && !is_answer(Code::PurgeQueue) && !is_answer(Code::UnknownTopic));
    }

    #[test]
    fn a_fatal_error_or_a_purge_is_sent_again() {
        assert_eq!(judge(Code::Fatal), Verdict::Again);
        assert_eq!(judge(Code::PurgeInflight), Verdict::Again);
    }

    #[test]
    fn a_record_that_the_broker_will_never_take_is_not_tried_again() {
        let too_large = Verdict::Fail { failure: Failure::TooLarge, retriable: false };
        assert_eq!(judge(Code::MessageSizeTooLarge), too_large);
        assert_eq!(judge(Code::PolicyViolation), Verdict::Fail { failure: Failure::Refused, retriable: false });
        assert_eq!(judge(Code::MessageTimedOut), Verdict::Fail { failure: Failure::TimedOut, retriable: true });
    }
}
