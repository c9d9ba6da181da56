//! The engine through its public face: what it promises, and what nothing may shake.

mod support;

mod a_lost_longpoll_answer_is_given_again;
mod a_server_on_any_stream;
mod accept_rate;
mod bad_input;
mod bullet;
mod closing;
mod contexts;
mod credentials;
mod every_protocol_in_its_own_form;
mod everything_that_grows_has_a_bound;
mod hub;
mod killed;
mod lockstep;
mod missed_messages_come_in_portions;
mod no_broadcast_before_join_reply;
mod observers;
mod order_per_topic_and_publisher;
mod panic_ends_one_join;
mod phoenix_14;
mod phoenix_connecting;
mod phoenix_joining;
mod phoenix_messages;
mod presence;
mod resume;
mod rooms;
mod rooms_2;
mod secrets_are_not_shown;
mod simulation;
mod slow_join_blocks_its_topic_only;
mod slow_reader_is_closed_1013_and_delays_nobody;
mod slow_readers_lose_by_the_policy_of_the_topic;
mod stream;
mod test_kit;
mod tls;
