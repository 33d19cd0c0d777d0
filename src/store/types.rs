//! How the domain's types look in PostgreSQL. Here, so that the domain knows no database.

use sqlx::{
    Decode, Encode, Postgres, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef},
};
use uuid::Uuid;

use super::failure::NewerLabel;

use crate::domain::{
    case::CaseStatus,
    dead_letter::{LetterState, ReplayResult, ReplayState},
    ids::{OrderId, RefundId, ScheduleId, SeatNo, UserId},
    money::Fen,
    notification::{Kind, NotificationStatus},
    order::{Channel, Status},
    overrides::{OverrideAction, OverrideStatus},
    refund::RefundStatus,
};

/// A newtype stored as the type it wraps.
macro_rules! stored_as {
    ($newtype:ty, $inner:ty, $into:expr, $from:expr) => {
        impl Type<Postgres> for $newtype {
            fn type_info() -> PgTypeInfo {
                <$inner as Type<Postgres>>::type_info()
            }
            fn compatible(ty: &PgTypeInfo) -> bool {
                <$inner as Type<Postgres>>::compatible(ty)
            }
        }
        impl PgHasArrayType for $newtype {
            fn array_type_info() -> PgTypeInfo {
                <$inner as PgHasArrayType>::array_type_info()
            }
        }
        impl Encode<'_, Postgres> for $newtype {
            fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
                let into: fn(&$newtype) -> $inner = $into;
                <$inner as Encode<'_, Postgres>>::encode(into(self), buffer)
            }
        }
        impl<'r> Decode<'r, Postgres> for $newtype {
            fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
                let from: fn($inner) -> Result<$newtype, BoxDynError> = $from;
                from(<$inner as Decode<'r, Postgres>>::decode(value)?)
            }
        }
    };
}

stored_as!(OrderId, String, |id| id.as_str().to_owned(), |text| Ok(OrderId::try_from(text)?));
stored_as!(RefundId, String, |id| id.as_str().to_owned(), |text| Ok(RefundId::try_from(text)?));
stored_as!(UserId, String, |id| id.as_str().to_owned(), |text| Ok(UserId::try_from(text)?));
stored_as!(ScheduleId, Uuid, |id| id.0, |uuid| Ok(ScheduleId(uuid)));
stored_as!(SeatNo, i32, |seat| seat.0, |number| Ok(SeatNo(number)));
stored_as!(Fen, i64, |fen| fen.0, |fen| Ok(Fen(fen)));

/// An enum stored as a PostgreSQL enum with the same labels.
macro_rules! stored_as_label {
    ($label:ty, $pg_type:literal) => {
        impl Type<Postgres> for $label {
            fn type_info() -> PgTypeInfo {
                PgTypeInfo::with_name($pg_type)
            }
        }
        impl PgHasArrayType for $label {
            fn array_type_info() -> PgTypeInfo {
                PgTypeInfo::array_of($pg_type)
            }
        }
        impl Encode<'_, Postgres> for $label {
            fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
                <&str as Encode<'_, Postgres>>::encode(self.as_str(), buffer)
            }
        }
        impl<'r> Decode<'r, Postgres> for $label {
            fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
                let label = <&str as Decode<'r, Postgres>>::decode(value)?;
                <$label>::ALL
                    .into_iter()
                    .find(|known| known.as_str() == label)
                    .ok_or_else(|| NewerLabel { label: label.to_owned(), of: $pg_type }.into())
            }
        }
    };
}

stored_as_label!(Status, "order_status");
stored_as_label!(Channel, "payment_channel");
stored_as_label!(Kind, "notification_kind");
stored_as_label!(NotificationStatus, "notification_status");
stored_as_label!(RefundStatus, "refund_status");
stored_as_label!(LetterState, "dead_letter_state");
stored_as_label!(ReplayState, "dead_letter_replay_state");
stored_as_label!(ReplayResult, "dead_letter_result");
stored_as_label!(CaseStatus, "case_status");
stored_as_label!(OverrideAction, "override_action");
stored_as_label!(OverrideStatus, "override_status");
