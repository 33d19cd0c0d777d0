pub mod wechat;
